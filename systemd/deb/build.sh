#!/usr/bin/env bash
# Builds the Debian package of one architecture from this checkout:
#
#     build.sh amd64|arm64 VERSION FOLDER     -> FOLDER/ichwatch_VERSION_ARCH.deb
#
# The other architecture is cross-built: the binary has C in it (the bindings of
# ONNX Runtime) and needs that architecture's compiler. The same checkout gives
# the same bytes.
set -euo pipefail
[ $# = 3 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
arch=$1 version=$2
mkdir -p "$3"
out=$(cd "$3" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
cd "$source"

case $arch in
amd64) triplet=x86_64-linux-gnu ;;
arm64) triplet=aarch64-linux-gnu ;;
*) echo "build.sh: no package for $arch: amd64 and arm64 are built" >&2; exit 2 ;;
esac
if [ "$arch" = "$(go env GOHOSTARCH)" ]; then
	compiler=${CC:-gcc}
else
	compiler=$triplet-gcc
fi
command -v "$compiler" >/dev/null || {
	echo "build.sh: $compiler is not installed (Debian, Ubuntu: apt-get install gcc-${triplet%%-*}-linux-gnu libc6-dev-$arch-cross)" >&2
	exit 1
}

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

build() { go build -buildmode=pie -trimpath -ldflags "-s -w -X main.version=$version" -o "$1" ./daemon; }
GOOS=linux GOARCH=$arch CGO_ENABLED=1 CC=$compiler build "$stage/ichwatch"
# What the program prints about itself comes from one that runs here.
if [ "$arch" = "$(go env GOHOSTARCH)" ]; then
	native=$stage/ichwatch
else
	native=$stage/native
	CGO_ENABLED=1 build "$native"
fi
"$native" man "$stage/man"
gzip -9n "$stage"/man/*.1
for shell in bash zsh fish; do
	"$native" completion "$shell" >"$stage/completion.$shell"
done
gzip -9nc CHANGELOG.md >"$stage/CHANGELOG.md.gz"
gzip -9nc >"$stage/changelog.gz" <<END
ichwatch ($version) stable; urgency=medium

  * What changed is in CHANGELOG.md.gz.

 -- the ichwatch authors <ichwatch@example.org>  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END
mkdir "$stage/models"
for manifest in models/*/manifest.yaml; do
	cp -r "$(dirname "$manifest")" "$stage/models/"
done
cp systemd/ichwatch.* systemd/README.md SECURITY.md configs/ichwatch.yaml systemd/deb/{postinst,prerm,postrm,copyright} "$stage"

# The tools' own module: nothing of it is in the daemon.
go -C "$here" run ./bom -binary "$stage/ichwatch" -source "$source" -version "$version" -out "$stage"
gzip -9n "$stage/LICENSES"
go -C "$here" build -o "$stage/nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm

chmod -R u=rwX,go=rX "$stage"
find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
cd "$stage"
ARCH=$arch VERSION=$version ./nfpm package --packager deb --config "$here/nfpm.yaml" --target "$out"
