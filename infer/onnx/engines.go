package onnx

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// engineCache is the folder of what TensorRT compiles: below it one for each model,
// libraries and GPU, since TensorRT's own key does not know the weights. Which
// files belong to it stands in sums; an engine is a program, and none is loaded
// that was not written here.
type engineCache struct{ dir string }

// sums lists the files of a folder as sha256sum does.
const sums = "SHA256SUMS"

// open gives the folder for a trial, emptied where it is not what was sealed, and
// removes what other libraries or another GPU left for the same model.
func (c engineCache) open(t Trial, precisions []string) (string, error) {
	if c.dir == "" {
		return "", errors.New("there is no folder for engines (onnxruntime.engines)")
	}
	key, err := json.Marshal(struct {
		Trial      Trial
		GPU        string
		Precisions []string
		Buckets    []int
	}{Trial{SHA256: t.SHA256, Libraries: t.Libraries, ModelSHA: t.ModelSHA, Maps: t.Maps, Features: t.Features}, gpu("/"), precisions, gpuBuckets})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(key)
	model := t.ModelSHA[:16] + "-"
	name := model + hex.EncodeToString(sum[:8])
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return "", fmt.Errorf("folder for engines: %w", err)
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return "", fmt.Errorf("folder for engines: %w", err)
	}
	for _, e := range entries {
		if e.Name() != name && strings.HasPrefix(e.Name(), model) {
			if err := os.RemoveAll(filepath.Join(c.dir, e.Name())); err != nil {
				return "", fmt.Errorf("remove engines that no longer fit: %w", err)
			}
		}
	}
	dir := filepath.Join(c.dir, name)
	if c.verify(dir) != nil {
		if err := os.RemoveAll(dir); err != nil {
			return "", fmt.Errorf("remove engines that are damaged: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("folder for engines: %w", err)
	}
	return dir, nil
}

// seal writes down what is in a folder.
func (c engineCache) seal(dir string) error {
	found, err := hashes(dir)
	if err != nil {
		return fmt.Errorf("seal the engines: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, sums), []byte(strings.Join(found, "")), 0o600); err != nil {
		return fmt.Errorf("seal the engines: %w", err)
	}
	return nil
}

// verify says whether a folder holds what was sealed, no more and no less.
func (c engineCache) verify(dir string) error {
	f, err := os.Open(filepath.Join(dir, sums))
	if err != nil {
		return err
	}
	defer f.Close()
	var sealed []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		sealed = append(sealed, lines.Text()+"\n")
	}
	found, err := hashes(dir)
	if err == nil && !slices.Equal(sealed, found) {
		err = errors.New("the engines are not those that were built here")
	}
	return err
}

// hashes gives a line for each file of a folder.
func hashes(dir string) (lines []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir(), d.Name() == sums:
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is no file", path)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		lines = append(lines, hex.EncodeToString(h.Sum(nil))+"  "+name+"\n")
		return err
	})
	return lines, err
}

// gpu tells the GPUs and their driver apart from others, as the system below root
// describes them: an engine fits one kind of them.
func gpu(root string) string {
	var said []string
	for _, pattern := range []string{
		"proc/driver/nvidia/gpus/*/information", "proc/driver/nvidia/version", "proc/device-tree/model", "etc/nv_tegra_release",
	} {
		files, _ := filepath.Glob(filepath.Join(root, pattern)) // the pattern is sound
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil {
				said = append(said, string(text))
			}
		}
	}
	return strings.Join(said, "\n")
}
