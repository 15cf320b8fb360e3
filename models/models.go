// Package models carries the model that ships inside the binary: small, trained on phantoms alone, for the demo and
// for commissioning. The others beside it are folders to be installed, named in the configuration.
package models

import (
	"embed"
	"io/fs"
)

//go:embed resnet18-phantom
var phantom embed.FS

// Phantom returns the folder of the phantom model: model.onnx, manifest.yaml and MODEL_CARD.md.
func Phantom() fs.FS {
	dir, err := fs.Sub(phantom, "resnet18-phantom")
	if err != nil {
		panic(err) // the name is a constant and embedded
	}
	return dir
}
