package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"ichwatch/daemon/app"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ichwatch": main})
}

// TestScripts runs the command line as a person would: testdata/scripts holds a script a subject.
func TestScripts(t *testing.T) {
	library, err := app.FindRuntime()
	if library != "" {
		library, err = filepath.Abs(library)
	}
	if err != nil {
		if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
			t.Fatal(err)
		}
		t.Log("the scripts that run a model are skipped:", err)
	}
	shipped, err := filepath.Abs(filepath.Join("..", "models"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("..", "testdata", "scripts"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("ICHWATCH_ONNXRUNTIME", library)
			env.Setenv("MODELS", shipped)
			return nil
		},
		Condition: func(cond string) (bool, error) { return cond == "runtime" && library != "", nil },
	})
}
