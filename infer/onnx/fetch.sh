#!/bin/sh
# Puts ONNX Runtime's library for the CPU into a folder:
#
#     fetch.sh DIR [x64|arm64]        -> DIR/libonnxruntime.so.1
#
# Where it comes from, the first that there is:
#   ICHWATCH_ONNXRUNTIME   a copy: a library, or the package's tarball (.tgz)
#   npm                    the package onnxruntime-node (86 MB)
#   curl                   the release on GitHub
#
# A library is taken only with the SHA-256 that is expected: for a library from
# the npm package it is written here; for any other (one built for a Jetson, the
# one in the GitHub release) say it in ICHWATCH_ONNXRUNTIME_SHA256.
#
# A library that is already there with that sum is left alone.
set -eu

version=1.24.1
package=onnxruntime-node@$version

say() { printf 'onnxruntime: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }
sum() { sha256sum "$1" | cut -d ' ' -f 1; }

usage() {
	cat <<-END
		usage: fetch.sh DIR [x64|arm64]
		Puts ONNX Runtime $version for the CPU into DIR/libonnxruntime.so.1, from
		ICHWATCH_ONNXRUNTIME (a copy), npm or curl, the first that there is.
		ICHWATCH_ONNXRUNTIME_SHA256 is the hash to expect of another build.
	END
}

case ${1:-} in
-h | --help)
	usage
	exit 0
	;;
-*)
	say "unknown option $1"
	usage >&2
	exit 2
	;;
esac
[ $# -ge 1 ] && [ $# -le 2 ] && [ -n "$1" ] || { usage >&2; exit 2; }
dir=$1
machine=${2:-$(uname -m)}
case $machine in
x64 | x86_64 | amd64)
	arch=x64 release=x64
	pinned=53ef1ac028dd1b05554b8da28d9159eb3876f99868193d2aaa6e67f0243c23d4
	;;
arm64 | aarch64)
	arch=arm64 release=aarch64
	pinned=7954e8bdedb497f830c6a679e818d98399b7f4d81ade1126c3e0be74d28111ab
	;;
*) fail "there is no build for $machine; build ONNX Runtime $version from source and name it in ICHWATCH_ONNXRUNTIME" ;;
esac
expected=${ICHWATCH_ONNXRUNTIME_SHA256:-$pinned}
target=$dir/libonnxruntime.so.1
member=package/bin/napi-v6/linux/$arch/libonnxruntime.so.1

command -v sha256sum >/dev/null || fail "sha256sum is missing; install coreutils"
if [ -f "$target" ] && [ "$(sum "$target")" = "$expected" ]; then
	say "$target is there"
	exit 0
fi

mkdir -p "$dir"
work=$(mktemp -d "$dir/.onnxruntime.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
library=$work/libonnxruntime.so.1

copy=${ICHWATCH_ONNXRUNTIME:-}
if [ -n "$copy" ]; then
	[ -r "$copy" ] || fail "ICHWATCH_ONNXRUNTIME is $copy, which cannot be read"
	say "copying $copy"
	case $copy in
	*.tgz | *.tar.gz)
		tar -xzf "$copy" -C "$work" "$member" || fail "$copy does not hold $member: is it $package?"
		mv "$work/$member" "$library"
		;;
	*) cp "$copy" "$library" ;;
	esac
elif command -v npm >/dev/null; then
	say "fetching the npm package $package (86 MB, takes a minute)"
	(cd "$work" && npm pack --silent "$package" >/dev/null) ||
		fail "npm could not fetch $package; is there a network? A copy fetched elsewhere can be named in ICHWATCH_ONNXRUNTIME"
	say "unpacking"
	tar -xzf "$work"/onnxruntime-node-$version.tgz -C "$work" "$member"
	mv "$work/$member" "$library"
elif command -v curl >/dev/null; then
	name=onnxruntime-linux-$release-$version
	say "npm is missing; fetching the release $name from GitHub"
	curl --fail --location --progress-bar --output "$work/release.tgz" \
		"https://github.com/microsoft/onnxruntime/releases/download/v$version/$name.tgz" ||
		fail "the release could not be fetched; install npm, or name a copy in ICHWATCH_ONNXRUNTIME"
	tar -xzf "$work/release.tgz" -C "$work" "$name/lib/libonnxruntime.so.$version"
	mv "$work/$name/lib/libonnxruntime.so.$version" "$library"
else
	fail "neither npm nor curl is there; install one, or name a copy of libonnxruntime.so.$version in ICHWATCH_ONNXRUNTIME"
fi

got=$(sum "$library")
if [ "$got" != "$expected" ]; then
	say "the library has SHA-256 $got"
	say "expected is          $expected"
	fail "it is not installed. Only if you know where it comes from: ICHWATCH_ONNXRUNTIME_SHA256=$got"
fi
chmod 644 "$library"
touch "$library" # the package's files date from 1985
mv -f "$library" "$target"
say "$target is ready (ONNX Runtime $version, $arch)"
