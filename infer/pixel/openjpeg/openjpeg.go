// Package openjpeg decodes JPEG 2000 (ITU-T T.800) with OpenJPEG's program
// opj_decompress, in a process of its own that has little time and memory: the
// decoder is large, written in C, and what it is given comes from the network.
//
// The frame goes to the process, and its samples come back, in memory files
// (memfd_create(2)): pixels of patients touch no disk.
package openjpeg

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrAbsent: the program is not installed.
	ErrAbsent = errors.New("JPEG 2000 needs the program opj_decompress; " +
		"install libopenjp2-tools (Debian, Ubuntu) or openjpeg2-tools (Fedora, Red Hat)")
	// ErrMalformed: the bytes are no codestream of the size that is asked for.
	ErrMalformed = errors.New("malformed JPEG 2000 codestream")
	// ErrUnsupported: a codestream that no CT slice has.
	ErrUnsupported = errors.New("JPEG 2000 codestream not supported")
	// ErrTimeout: the process was killed because its time was over.
	ErrTimeout = errors.New("OpenJPEG took too long")
)

// Limits of the process. A slice of 512 by 512 takes 0.05 s and 15 MiB; one of
// 4096 by 4096, some seconds and 500 MiB.
const (
	baseTime      = 5 * time.Second
	timeForSample = time.Microsecond
	maxMemory     = 1 << 30 // of address space
)

const program = "opj_decompress"

// Find returns the path of the program. The error is ErrAbsent. It is looked up
// for each frame anew: what is installed is used from then on.
func Find() (string, error) {
	path, err := exec.LookPath(program)
	if err != nil || !filepath.IsAbs(path) {
		return "", ErrAbsent
	}
	return path, nil
}

// Decode fills dst with the samples of the codestream src, width by height of
// them row by row, and returns their precision in bits and whether they are
// signed, in which case each word is a two's complement of 16 bits. A codestream
// of another size is malformed. The error matches one of this package's or is
// ctx's or the system's.
func Decode(ctx context.Context, dst []uint16, src []byte, width, height int) (precision int, signed bool, err error) {
	c, err := parse(src)
	switch {
	case err != nil:
		return 0, false, err
	case c.width != width || c.height != height || len(dst) != width*height:
		return 0, false, fmt.Errorf("%w: %d by %d samples where %d by %d are wanted", ErrMalformed, c.width, c.height, width, height)
	}
	path, err := Find()
	if err != nil {
		return 0, false, err
	}
	timeout := baseTime + time.Duration(len(dst))*timeForSample
	samples, err := run(ctx, path, src, len(dst)*c.bytes(), timeout)
	if err != nil {
		return 0, false, err
	}
	c.words(dst, samples)
	return c.precision, c.signed, nil
}

// run has the program decode src into size bytes in the time given.
func run(ctx context.Context, path string, src []byte, size int, timeout time.Duration) ([]byte, error) {
	in, err := memory("frame", src)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := memory("samples", nil)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	// The program tells formats by the names of files: these lead to the files
	// that it inherits as its descriptors 3 and 4.
	dir, err := os.MkdirTemp("", "ichwatch-openjpeg-")
	if err != nil {
		return nil, fmt.Errorf("openjpeg: %w", err)
	}
	defer os.RemoveAll(dir)
	for name, target := range map[string]string{"frame.j2k": "/proc/self/fd/3", "samples.rawl": "/proc/self/fd/4"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("openjpeg: %w", err)
		}
	}

	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-quiet", "-threads", "1", "-i", "frame.j2k", "-o", "samples.rawl")
	cmd.Dir = dir
	cmd.Env = []string{"LC_ALL=C"}
	cmd.ExtraFiles = []*os.File{in, out}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("openjpeg: %w", err)
	}
	// It cannot come far before: the frame is read and memory taken after the
	// program is loaded. If it has ended already, there is nobody to limit.
	err = limit(cmd.Process.Pid, size, timeout)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		cancel()
	}
	failed := cmd.Wait()
	switch {
	case err != nil && !errors.Is(err, unix.ESRCH):
		return nil, fmt.Errorf("openjpeg: limit the process: %w", err)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("openjpeg: %w", context.Cause(ctx))
	case failed != nil:
		return nil, fmt.Errorf("%w: OpenJPEG gives it up (%w)", ErrMalformed, failed)
	}
	samples := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(out, 0, math.MaxInt64), samples); err != nil {
		return nil, fmt.Errorf("%w: OpenJPEG gives fewer than %d bytes of samples", ErrMalformed, size)
	}
	return samples, nil
}

// memory gives a file in memory that holds b and is closed on exec.
func memory(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("ichwatch-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("openjpeg: file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(b); err != nil {
		return nil, errors.Join(fmt.Errorf("openjpeg: file in memory: %w", err), f.Close())
	}
	return f, nil
}

// limit bounds what the process may take: memory, processor time, and the length
// of what it writes.
func limit(pid, size int, timeout time.Duration) error {
	for resource, value := range map[int]uint64{
		unix.RLIMIT_AS:    maxMemory,
		unix.RLIMIT_CPU:   uint64(timeout/time.Second) + 1,
		unix.RLIMIT_FSIZE: uint64(size) + 1, // who copies asks past the end before learning that there is no more
		unix.RLIMIT_CORE:  0,
	} {
		if err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: value, Max: value}, nil); err != nil {
			return err
		}
	}
	return nil
}

// words turns what the program writes, the lowest bits of each sample in one byte
// or two, into words.
func (c *codestream) words(dst []uint16, samples []byte) {
	shift := 0 // puts the sign where an arithmetic shift takes it along
	if c.signed {
		shift = 16 - c.precision
	}
	for i := range dst {
		var w uint16
		if c.bytes() == 1 {
			w = uint16(samples[i])
		} else {
			w = binary.LittleEndian.Uint16(samples[2*i:])
		}
		if c.signed {
			w = uint16(int16(w<<shift) >> shift)
		}
		dst[i] = w
	}
}
