package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// endingEnv tells a daemon of the tests how it is to end.
const endingEnv = "ICHWATCH_ENDING"

// ending is how a life of the daemon ends.
type ending struct {
	Step  string        // the spool's, at which it kills itself; "": it does not
	Count int           // at which time of it
	Disk  string        // where the disk is mounted whose power is cut first; "": none
	After time.Duration // by our own hand, where there is no Step
}

// mortal is main, and dies as endingEnv says. The program that ships has no such hook.
func mortal() {
	if order := os.Getenv(endingEnv); order != "" {
		var e ending
		if err := json.Unmarshal([]byte(order), &e); err != nil {
			panic(err)
		}
		var times atomic.Int64
		hook = func(step string) {
			if step != e.Step || times.Add(1) != int64(e.Count) {
				return
			}
			if e.Disk != "" {
				if err := cutPower(e.Disk); err != nil {
					panic(err)
				}
			}
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	}
	main()
}

// life is one process of the daemon.
type life struct {
	*torture
	cmd   *exec.Cmd
	log   *dimsetest.Output
	ended chan struct{}
	err   error // of Wait, after ended

	unplugged bool // the power was cut from outside: it may have noticed
}

// born starts a daemon, and lets everybody around it try to speak to it.
func (x *torture) born(e ending) *life {
	x.Helper()
	program, err := os.Executable()
	x.must(err)
	order, err := json.Marshal(e)
	x.must(err)
	l := &life{torture: x, log: new(dimsetest.Output), ended: make(chan struct{})}
	l.cmd = exec.Command(program, "serve", "--config", x.config)
	l.cmd.Args[0] = "ichwatch" // which TestMain takes for the program itself
	l.cmd.Env = append(os.Environ(), endingEnv+"="+string(order))
	l.cmd.Stderr = l.log
	x.must(l.cmd.Start())
	x.now = l
	go func() {
		defer close(l.ended)
		l.err = l.cmd.Wait()
	}()
	x.scanner.begin(l.ended)
	x.archive.begin(l.ended)
	return l
}

// ends waits for a daemon's end by itself, and returns whether it came in time.
func (l *life) ends(patience time.Duration) bool {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-l.ended:
		return true
	case <-t.C:
		return false
	}
}

func (l *life) over() bool { return l.ends(0) }

// answers waits until the daemon listens; false: it has ended before.
func (l *life) answers() bool {
	for !l.ends(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", l.port))
		if err == nil {
			conn.Close()
			return true
		}
	}
	return false
}

// end ends a daemon from outside.
func (l *life) end() {
	if l.disk != nil {
		l.must(l.disk.cut())
		l.unplugged = true
	}
	_ = l.cmd.Process.Kill()
}

// buried waits until the daemon has ended, which must have been by SIGKILL, and until everybody around it has noticed.
func (l *life) buried() {
	l.Helper()
	<-l.ended
	l.scanner.wait()
	l.archive.wait()
	if strings.Contains(l.log.String(), "DATA RACE") {
		l.Errorf("the race detector has found something\n%s", l.log)
	}
	var exit *exec.ExitError
	if !errors.As(l.err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL && !l.unplugged {
		l.Fatalf("the daemon ended by itself: %v\n%s", l.err, l.log)
	}
}

// onDisk are the data sets of the spool's instances, by their SHA-256.
func (x *torture) onDisk() map[dicom.UID][sha256.Size]byte {
	x.Helper()
	files, err := filepath.Glob(filepath.Join(x.spool, "instances", "*", "*.dcm"))
	x.must(err)
	held := make(map[dicom.UID][sha256.Size]byte, len(files))
	for _, file := range files {
		uid, sum, err := dataSetOf(file)
		if err != nil {
			x.Logf("life %d: %v", x.life, err) // the next start moves it to quarantine; was it acknowledged, it is missed above
			continue
		}
		if other, twice := held[uid]; twice && other != sum {
			x.Errorf("life %d: %s is on the disk with two contents", x.life, uid)
		}
		held[uid] = sum
	}
	return held
}

// dataSetOf reads a Part 10 file.
func dataSetOf(file string) (uid dicom.UID, sum [sha256.Size]byte, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", sum, err
	}
	defer f.Close()
	meta, _, err := dicom.ReadFileMeta(f)
	if err != nil {
		return "", sum, fmt.Errorf("%s: %w", file, err)
	}
	hash := sha256.New()
	if _, err := f.WriteTo(hash); err != nil {
		return "", sum, fmt.Errorf("%s: %w", file, err)
	}
	hash.Sum(sum[:0])
	return meta.SOPInstanceUID, sum, nil
}
