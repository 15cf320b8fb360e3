package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"ichwatch/configs"
	"ichwatch/daemon/app"
	"ichwatch/infer/onnx"
	"ichwatch/infer/onnx/install"
)

func runtimeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "runtime",
		Short: "Install or verify ONNX Runtime, which runs the models",
		Long: `The models run in ONNX Runtime, a library that is no part of this program. It is
installed once, from the npm package that carries it or from a file, and taken
only with the hash that is expected.`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(runtimeInstallCommand(), runtimeVerifyCommand())
	return cmd
}

func runtimeInstallCommand() *cobra.Command {
	o := install.Options{Dir: filepath.Dir(configs.Default().ONNXRuntime.Library)}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Fetch ONNX Runtime, or take a copy, and put it where the daemon looks for it",
		Long: `Puts ONNX Runtime ` + install.Version + ` into a folder as ` + install.Name + `. Without --from, npm
fetches the package ` + install.NPMPackage + `, whose libraries for amd64 and arm64 are known
by their hash; where there is no npm, the release comes from GitHub, with the hash
that --sha256 gives. A library that is there already, with the right hash, is left
alone. One in use is replaced for the next start of the daemon.

On a machine without a network: ` + "`npm pack " + install.NPMPackage + "`" + ` elsewhere, and
name the file with --from. On a Jetson: JetPack's wheel, with its library's hash.`,
		Example: `  sudo ichwatch runtime install
  sudo ichwatch runtime install --from onnxruntime-node-` + install.Version + `.tgz
  sudo ichwatch runtime install --from onnxruntime_gpu-1.24.0-cp310-cp310-linux_aarch64.whl --sha256 HASH`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.SHA256 = strings.ToLower(o.SHA256); o.SHA256 != "" && !isSHA256(o.SHA256) {
				return callError(cmd, fmt.Errorf("--sha256 is %q, and should be the 64 hex digits that sha256sum prints of the library", o.SHA256))
			}
			o.Say = func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) }
			bar := newProgress(cmd.ErrOrStderr(), "KiB")
			o.Progress = func(done, total int64) { bar.step(int(done>>10), int(total>>10)) }
			lib, err := install.Library(cmd.Context(), o)
			if errors.Is(err, os.ErrPermission) {
				return fmt.Errorf("%w; with sudo, or into a folder of yours with --dir", err)
			}
			if err != nil {
				return err
			}
			return printLibrary(cmd.OutOrStdout(), lib)
		},
	}
	cmd.Flags().StringVar(&o.Dir, "dir", o.Dir, "the `FOLDER` to put the library into")
	cmd.Flags().StringVar(&o.From, "from", "", "a copy: the library, or a package that holds it (.tgz, .whl)")
	cmd.Flags().StringVar(&o.SHA256, "sha256", "", "the `HASH` to expect of the library, where it is none of those known")
	return cmd
}

func runtimeVerifyCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "verify [LIBRARY]",
		Short: "Tell which ONNX Runtime the daemon would load, and whether it may",
		Long: `Looks at the library that the configuration names, or at the one given, without
loading it: whole, for this machine, of a version that fits, with the hash that
the configuration asks for. Prints the hash for onnxruntime.sha256.`,
		Example: `  ichwatch runtime verify
  ichwatch runtime verify bin/libonnxruntime.so.1`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, sum, err := "", "", error(nil)
			if len(args) == 1 {
				file = args[0]
			} else if file, sum, err = configuredLibrary(cmd, path); err != nil {
				return err
			}
			lib, err := onnx.Inspect(file)
			if err != nil {
				return err
			}
			if err := printLibrary(cmd.OutOrStdout(), lib); err != nil {
				return err
			}
			if sum != "" && sum != lib.SHA256 {
				return fmt.Errorf("onnxruntime.sha256 in %s is %s: this is another library, and the daemon does not load it", path, sum)
			}
			if sum == "" && lib.Known == "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "ichwatch: its hash is none of those known, and no configuration names it: only you can tell where it comes from")
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", defaultConfig, "configuration, which names the library and its hash")
	return cmd
}

// configuredLibrary is the library that the configuration names and the hash that it asks for. Where there is no
// configuration, and none was asked for, it is the one that the demo would load.
func configuredLibrary(cmd *cobra.Command, config string) (file, sum string, err error) {
	if _, err := os.Stat(config); errors.Is(err, os.ErrNotExist) && !cmd.Flags().Changed("config") {
		file, err = app.FindRuntime()
		return file, "", err
	}
	cfg, err := configs.Load(config)
	if err != nil {
		return "", "", reported(cmd, err)
	}
	return cfg.ONNXRuntime.Library, cfg.ONNXRuntime.SHA256, nil
}

func printLibrary(w io.Writer, lib onnx.Library) error {
	known := lib.Known
	if known == "" {
		known = "unknown"
	}
	_, err := fmt.Fprintf(w, "library  %s\nversion  %s\nsha256   %s\nbuild    %s\n", lib.Path, lib.Version, lib.SHA256, known)
	return err
}

func isSHA256(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
