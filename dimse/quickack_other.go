//go:build !linux

package dimse

import "net"

// quickAcknowledge returns nil: only Linux has TCP_QUICKACK.
func quickAcknowledge(net.Conn) func() { return nil }
