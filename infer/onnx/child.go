package onnx

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Child makes trials in a process of its own, which may build an engine for
// minutes, take all the memory there is, hang or die without harm.
type Child struct {
	// Command reads a Trial and writes what comes of it, as Answer does.
	Command []string
	Timeout time.Duration // default 20 min: an engine takes ten on an Orin
	Memory  int64         // bytes resident; default 8 GiB
}

// Why a child was ended.
var (
	ErrTrialTimeout = errors.New("the trial took too long")
	ErrTrialMemory  = errors.New("the trial took too much memory")
)

const (
	trialTime   = 20 * time.Minute
	trialMemory = 8 << 30
)

// verdict is what a child answers.
type verdict struct {
	Proof Proof  `json:"proof"`
	Error string `json:"error,omitempty"`
}

// Answer is the child's side: it makes the trial that it reads and writes a line
// with what came of it.
func Answer(ctx context.Context, in io.Reader, out io.Writer) error {
	var t Trial
	d := json.NewDecoder(in)
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return fmt.Errorf("read the trial: %w", err)
	}
	var v verdict
	proof, err := Try(ctx, t)
	if v.Proof = proof; err != nil {
		v.Error = err.Error()
	}
	return json.NewEncoder(out).Encode(v)
}

// Prove has a child make a trial.
func (c Child) Prove(ctx context.Context, t Trial) (Proof, error) {
	trial, err := json.Marshal(t)
	if err != nil {
		return Proof{}, err
	}
	timeout, memory := c.Timeout, c.Memory
	if timeout == 0 {
		timeout = trialTime
	}
	if memory == 0 {
		memory = trialMemory
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w: more than %v", ErrTrialTimeout, timeout))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	// The child is to die with the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(trial), &out, &last{&said}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return Proof{}, fmt.Errorf("start a trial: %w", err)
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watchMemory(ctx, cmd.Process.Pid, memory, stop)
	}()
	err = cmd.Wait()
	cause := context.Cause(ctx)
	stop(nil)
	<-watched
	switch {
	case cause != nil:
		return Proof{}, cause
	case err != nil:
		return Proof{}, fmt.Errorf("the trial broke down: %w%s", err, quoted(said.String()))
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n") // a driver may print as well
	var v verdict
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &v); err != nil {
		return Proof{}, fmt.Errorf("the trial's answer cannot be read: %w", err)
	}
	if v.Error != "" {
		return v.Proof, errors.New(v.Error)
	}
	return v.Proof, nil
}

// watchMemory ends a process that has more in memory than it may. A limit of the
// system on addresses would not do: CUDA takes more of them than there is memory.
func watchMemory(ctx context.Context, pid int, most int64, stop func(error)) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var pages, resident int64
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			continue // it has ended
		}
		if _, err := fmt.Sscan(string(text), &pages, &resident); err == nil && resident*int64(os.Getpagesize()) > most {
			stop(fmt.Errorf("%w: more than %d MiB", ErrTrialMemory, most>>20))
			return
		}
	}
}

// last keeps the end of what is written.
type last struct{ *bytes.Buffer }

const lastBytes = 2 << 10

func (l *last) Write(b []byte) (int, error) {
	l.Buffer.Write(b)
	if over := l.Len() - lastBytes; over > 0 {
		l.Next(over)
	}
	return len(b), nil
}

// quoted appends the last line of what a program said.
func quoted(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if line := lines[len(lines)-1]; line != "" {
		return ": " + line
	}
	return ""
}
