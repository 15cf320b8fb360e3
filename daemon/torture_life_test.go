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
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// endingEnv tells a daemon of the tests how it is to end.
const endingEnv = "ICHWATCH_ENDING"

// ending is how a life of the daemon ends.
type ending struct {
	Step  string        // the spool's, at which it kills itself; "": it does not
	Count int           // at which time of it
	Asks  bool          // to be ended instead, by a byte to the file that it inherits
	After time.Duration // by our own hand, where there is no Step
}

// inherited is the first file of exec.Cmd.ExtraFiles.
const inherited = 3

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
			if e.Asks {
				_, _ = os.NewFile(inherited, "asks").Write([]byte{1})
			} else {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
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

	asks     *os.File // it asks here for its end; nil: it does it itself
	unplug   sync.Once
	powerCut error // after unplug
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
	if e.Asks {
		asks, asked, err := os.Pipe()
		x.must(err)
		defer asked.Close()
		l.asks, l.cmd.ExtraFiles = asks, []*os.File{asked}
	}
	x.must(l.cmd.Start())
	x.now = l
	go func() {
		defer close(l.ended)
		l.err = l.cmd.Wait()
	}()
	if e.Asks {
		go func() {
			if n, _ := l.asks.Read(make([]byte, 1)); n > 0 {
				l.end()
			}
		}()
	}
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
//
// Before the power of its disk is cut it is stopped, to the last of its threads: it must not hear what becomes of an fsync
// that is under way. ext4 may call one done that has lost its transaction to the cut, which on a machine without power
// nobody is told.
func (l *life) end() {
	l.unplug.Do(func() {
		if l.disk != nil {
			pid := l.cmd.Process.Pid
			if err := unix.Kill(pid, unix.SIGSTOP); err == nil { // otherwise it has ended
				_ = unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED, nil) // likewise
			}
			l.powerCut = l.disk.cut()
		}
		_ = l.cmd.Process.Kill()
	})
}

// buried waits until the daemon has ended, which must have been by SIGKILL, and until everybody around it has noticed.
func (l *life) buried() {
	l.Helper()
	<-l.ended
	l.unplug.Do(func() {}) // over, if it was begun
	l.must(l.powerCut)
	if l.asks != nil {
		l.must(l.asks.Close())
	}
	l.scanner.wait()
	l.archive.wait()
	if strings.Contains(l.log.String(), "DATA RACE") {
		l.Errorf("the race detector has found something\n%s", l.log)
	}
	var exit *exec.ExitError
	if !errors.As(l.err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
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
