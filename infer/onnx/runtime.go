// Package onnx runs models through ONNX Runtime. It is the only package that
// imports it.
//
// The runtime is a shared library that is looked at before it is loaded
// (Inspect) and loaded once in the life of the process (OpenRuntime). A
// Classifier is one model in it: a session on a provider, and as many runners as
// there are cores, each with tensors of its own that it keeps.
//
// What the wrapper does not guard against is guarded here: tensors stay
// reachable and pinned for as long as the library may write to them, nothing
// runs after it was destroyed, an input or output that is no number is an error,
// and the bytes that run are the manifest's verified ones.
package onnx

import (
	"fmt"
	"path/filepath"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// Runtime is the loaded library. There is one in a process, and it stays.
type Runtime struct {
	library Library
}

var opened struct {
	sync.Mutex
	runtime *Runtime
}

// OpenRuntime verifies the library at path and loads it. sum is the SHA-256 it
// must have, in hex; where it is empty the library still must be whole, for this
// machine, and of a version that fits.
//
// A second call gives the same runtime; one that names another library is
// refused, as a process cannot change it. After a failure a call with a better
// path may succeed. What is wrong with a library is a *LibraryError.
func OpenRuntime(path, sum string) (*Runtime, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open ONNX Runtime: %w", err)
	}
	lib, err := Inspect(path)
	if err != nil {
		return nil, fmt.Errorf("open ONNX Runtime: %w", err)
	}
	if sum != "" && sum != lib.SHA256 {
		return nil, fmt.Errorf("open ONNX Runtime: %w", &LibraryError{
			Path: path, Err: ErrLibraryHash,
			Reason: fmt.Sprintf("has SHA-256 %s, onnxruntime.sha256 in the configuration is %s", lib.SHA256, sum),
		})
	}

	opened.Lock()
	defer opened.Unlock()
	if r := opened.runtime; r != nil {
		if r.library.SHA256 != lib.SHA256 {
			return nil, fmt.Errorf("open ONNX Runtime: %s is loaded already and cannot be exchanged for %s while the process runs", r.library.Path, path)
		}
		return r, nil
	}
	ort.SetSharedLibraryPath(path)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return nil, fmt.Errorf("open ONNX Runtime: %w", &LibraryError{
			Path: path, Err: err, Reason: fmt.Sprintf("does not load: %v", err),
		})
	}
	// The API is there, or loading would have failed; the version only names it.
	lib.Version = ort.GetVersion()
	opened.runtime = &Runtime{library: lib}
	return opened.runtime, nil
}

// Library tells which library is loaded.
func (r *Runtime) Library() Library { return r.library }
