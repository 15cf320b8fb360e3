package onnx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"ichwatch/infer/manifest"
)

// The providers that are known, as the configuration names them.
const (
	CPU      = "cpu"
	CUDA     = "cuda"
	TensorRT = "tensorrt"
)

// Providers lists what may stand in the configuration.
func Providers() []string { return []string{TensorRT, CUDA, CPU} }

// provider is one way to compute a model.
type provider struct {
	name string
	// kernels is what ONNX Runtime calls it in a profile.
	kernels string
	// libraries must lie beside the runtime's own.
	libraries []string
	// buckets are the numbers of slices that run together, ascending.
	buckets   []int
	configure func(*ort.SessionOptions, placement) error
}

// placement is what a provider's options depend on.
type placement struct {
	dir        string // of the engines; TensorRT
	building   bool   // may write to it
	input      string // the model's, with the shape of one slice
	shape      ort.Shape
	precisions []string // below float32 that the manifest allows
}

// cpu computes each run on one thread: as many runs at once as there are cores
// are faster than one run on all of them, and a batch gains nothing.
var cpu = provider{
	name:    CPU,
	kernels: "CPUExecutionProvider",
	buckets: []int{1},
	configure: func(o *ort.SessionOptions, _ placement) error {
		return errors.Join(
			o.SetIntraOpNumThreads(1),
			o.SetInterOpNumThreads(1),
			o.SetGraphOptimizationLevel(ort.GraphOptimizationLevelEnableAll),
		)
	},
}

// A GPU computes several slices in little more than the time of one. Sizes are
// fixed, as each costs a search for algorithms or an engine of its own.
var gpuBuckets = []int{1, 4, 8}

const sharedLibrary = "libonnxruntime_providers_shared.so"

var cuda = provider{
	name:      CUDA,
	kernels:   "CUDAExecutionProvider",
	libraries: []string{sharedLibrary, "libonnxruntime_providers_cuda.so"},
	buckets:   gpuBuckets,
	configure: func(o *ort.SessionOptions, _ placement) error {
		return errors.Join(cpu.configure(o, placement{}), appendCUDA(o))
	},
}

// TensorRT leaves to CUDA what it does not know.
var tensorRT = provider{
	name:      TensorRT,
	kernels:   "TensorrtExecutionProvider",
	libraries: []string{sharedLibrary, "libonnxruntime_providers_cuda.so", "libonnxruntime_providers_tensorrt.so"},
	buckets:   gpuBuckets,
	configure: func(o *ort.SessionOptions, at placement) error {
		return errors.Join(cpu.configure(o, at), appendTensorRT(o, at), appendCUDA(o))
	},
}

// gpuMemory bounds what a session takes of the GPU's memory, which on a Jetson is
// the machine's.
const gpuMemory = 2 << 30

func appendCUDA(o *ort.SessionOptions) error {
	options, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer options.Destroy()
	if err := options.Update(map[string]string{
		"device_id":                    "0",
		"gpu_mem_limit":                strconv.Itoa(gpuMemory),
		"arena_extend_strategy":        "kSameAsRequested",
		"cudnn_conv_algo_search":       "HEURISTIC", // EXHAUSTIVE costs a second for each size
		"cudnn_conv_use_max_workspace": "0",
		"use_tf32":                     "0", // the figures of a model are those of float32
	}); err != nil {
		return err
	}
	return o.AppendExecutionProviderCUDA(options)
}

func appendTensorRT(o *ort.SessionOptions, at placement) error {
	options, err := ort.NewTensorRTProviderOptions()
	if err != nil {
		return err
	}
	defer options.Destroy()
	most := slices.Max(gpuBuckets)
	shape := func(n int) string {
		sizes := make([]string, len(at.shape))
		for i, size := range at.shape {
			sizes[i] = strconv.FormatInt(size, 10)
		}
		sizes[0] = strconv.Itoa(n)
		return at.input + ":" + strings.Join(sizes, "x")
	}
	// Whoever serves finds the engine in the cache and writes nothing to it.
	if err := options.Update(map[string]string{
		"device_id":                         "0",
		"trt_engine_cache_enable":           "1",
		"trt_engine_cache_path":             at.dir,
		"trt_timing_cache_enable":           flag(at.building),
		"trt_timing_cache_path":             at.dir,
		"trt_max_workspace_size":            strconv.Itoa(gpuMemory / 2),
		"trt_context_memory_sharing_enable": "1",
		"trt_fp16_enable":                   flag(slices.Contains(at.precisions, manifest.Float16)),
		"trt_int8_enable":                   flag(slices.Contains(at.precisions, manifest.Int8)), // scales are in the graph (QDQ)
		// A size outside of the profile would build an engine in mid-run.
		"trt_profile_min_shapes": shape(1),
		"trt_profile_opt_shapes": shape(most),
		"trt_profile_max_shapes": shape(most),
	}); err != nil {
		return err
	}
	return o.AppendExecutionProviderTensorRT(options)
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

// accelerators are the providers besides the CPU. Tests, which have no GPU, put the
// CPU under their names.
var accelerators = []provider{tensorRT, cuda}

// accelerator finds a provider by its name.
func accelerator(name string) (provider, error) {
	for _, p := range accelerators {
		if p.name == name {
			return p, nil
		}
	}
	return provider{}, fmt.Errorf("provider %q is not known", name)
}

// verify looks at the libraries of a provider before any of them is loaded. known
// has the SHA-256 of each by its file name, besides those that are pinned here.
// It returns what was found.
func (p provider) verify(dir string, known map[string]string) (map[string]string, error) {
	found := map[string]string{}
	for _, name := range p.libraries {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("%s needs %s beside ONNX Runtime: %w", p.name, name, err)
		}
		lib, err := inspect(path)
		if err != nil {
			return nil, err
		}
		want := known[name]
		switch {
		case want == "" && knownProviders[lib.SHA256] != name:
			return nil, &LibraryError{Path: path, Err: ErrLibraryHash, Reason: fmt.Sprintf("has SHA-256 %s, which no entry of onnxruntime.libraries gives", lib.SHA256)}
		case want != "" && want != lib.SHA256:
			return nil, &LibraryError{Path: path, Err: ErrLibraryHash, Reason: fmt.Sprintf("has SHA-256 %s, its entry of onnxruntime.libraries says %s", lib.SHA256, want)}
		}
		found[name] = lib.SHA256
	}
	return found, nil
}
