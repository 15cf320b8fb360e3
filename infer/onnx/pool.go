package onnx

import (
	"context"
	"errors"
)

// backend computes slices with one model on one provider. It is safe for
// concurrent use. Tests put one that fails in its place.
type backend interface {
	provider() string
	// acquire gives the memory of a slice; it waits while all is in use.
	acquire(ctx context.Context) (*job, error)
	// run computes the outputs from the input. A context that ends, or a provider
	// that hangs, leaves the job unfit to be read or written.
	run(ctx context.Context, j *job) error
	// release takes back what acquire gave.
	release(j *job)
	// close lets running slices end, turns away those that wait, and gives back what
	// the backend holds.
	close() error
}

// job is one slice in work.
type job struct {
	values
	runner *runner    // of a pool
	done   chan error // of a batcher
	lost   bool       // nobody knows who writes to it: not to be used again
}

// pool is a backend with as many runners as slices at a time.
type pool struct {
	session *session
	jobs    chan *job     // those at rest
	count   int           // of all
	closed  chan struct{} // no new work from here on
}

func newPool(s *session, runners int) (*pool, error) {
	p := &pool{session: s, jobs: make(chan *job, runners), closed: make(chan struct{})}
	for range runners {
		r, err := s.newRunner(1)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.jobs <- &job{values: r.values, runner: r}
		p.count++
	}
	return p, nil
}

func (p *pool) provider() string { return p.session.provider }

func (p *pool) acquire(ctx context.Context) (*job, error) { return take(ctx, p.jobs, p.closed) }

// take waits for a job.
func take(ctx context.Context, jobs <-chan *job, closed <-chan struct{}) (*job, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case <-closed:
		return nil, ErrClosed
	default:
	}
	select {
	case j := <-jobs:
		return j, nil
	case <-closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *pool) run(ctx context.Context, j *job) error { return j.runner.run(ctx) }

func (p *pool) release(j *job) { p.jobs <- j }

func (p *pool) close() error {
	close(p.closed)
	var errs []error
	for range p.count { // a runner that works comes back first
		errs = append(errs, (<-p.jobs).runner.destroy())
	}
	return errors.Join(append(errs, p.session.destroy())...)
}
