package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"ichwatch/configs"
	"ichwatch/infer/onnx/install"
)

// runtimeName is the file that `ichwatch runtime install` leaves.
const runtimeName = install.Name

// FindRuntime looks for ONNX Runtime where no configuration names it: $ICHWATCH_ONNXRUNTIME, beside the program, and
// where the configuration's default expects it.
func FindRuntime() (string, error) {
	if path := os.Getenv("ICHWATCH_ONNXRUNTIME"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("ICHWATCH_ONNXRUNTIME: %w", err)
		}
		return path, nil
	}
	var candidates []string
	if program, err := os.Executable(); err == nil {
		candidates = append(candidates, filepath.Join(filepath.Dir(program), runtimeName))
	}
	candidates = append(candidates, configs.Default().ONNXRuntime.Library)
	for _, path := range candidates {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("look for ONNX Runtime: %w", err)
		}
	}
	return "", fmt.Errorf("ONNX Runtime is not there (looked for %q); `ichwatch runtime install` fetches it, or name a copy in ICHWATCH_ONNXRUNTIME", candidates)
}
