# ichwatch: build, demo and checks. `make` alone lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

# What may be set: make fuzz FUZZTIME=5m, make demo ARGS='--once --json', make torture TORTURE=1h TORTURE_SEED=7 TORTURE_LANES=4, make overload DURATION=30m
FUZZTIME     ?= 30s
BENCHTIME    ?= 1s
TORTURE      ?= 10m
TEST_TIMEOUT ?= 20m
DURATION     ?= 10m
ARGS         ?=
VERSION      ?= 0.1.0-dev$(addprefix +,$(shell git rev-parse -q --verify --short HEAD 2>/dev/null))

# Orthanc and mosquitto lie in /usr/sbin, which not every user's PATH has.
export PATH := $(PATH):/usr/sbin
export CGO_ENABLED := 1
# A checkout that git cannot read (no commit yet, another owner) still builds;
# the binary then does not know its revision.
export GOFLAGS := $(GOFLAGS) -buildvcs=$(shell git rev-parse -q --verify HEAD >/dev/null 2>&1 && echo true || echo false)

# The library that `make runtime` leaves, handed over in the recipes. The same
# variable, where it is set outside, names a copy for it to take.
RUNTIME := $(abspath bin/libonnxruntime.so.1)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/ichwatch (needs Go and a C compiler)
	@command -v $${CC:-gcc} >/dev/null || { echo "no C compiler: install gcc (Debian, Ubuntu: apt-get install gcc libc6-dev)" >&2; exit 1; }
	go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/ichwatch ./daemon

.PHONY: runtime
runtime: build ## bin/libonnxruntime.so.1, fetched once and verified by its hash
	@bin/ichwatch runtime install --dir bin --from "$${ICHWATCH_ONNXRUNTIME:-}" --sha256 "$${ICHWATCH_ONNXRUNTIME_SHA256:-}" >/dev/null

.PHONY: demo
demo: runtime ## the daemon, a scanner, a PACS and a broker, live in this terminal
	@ICHWATCH_ONNXRUNTIME='$(RUNTIME)' bin/ichwatch demo $(ARGS)

.PHONY: peers
peers: ## the real programs that the tests talk to: DCMTK, Orthanc, pynetdicom, mosquitto and more
	@.ci/peers

# The race detector changes what is allocated: those tests run once more without it.
.PHONY: test
test: runtime peers lint ## everything: unit, race, peers, scripts; lists what was skipped
	@export ICHWATCH_REQUIRE_PEERS=1 ICHWATCH_ONNXRUNTIME='$(RUNTIME)'; { \
		go test -race -count=1 -timeout $(TEST_TIMEOUT) -json ./... ./.ci/testreport; \
		go test -count=1 -json -run Allocates ./infer/...; \
	} | go run ./.ci/testreport

.PHONY: race
race: ## go test -race without the peers, while working
	go test -race -timeout $(TEST_TIMEOUT) ./...

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "== $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzzminimizetime 10x -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

# As root it cuts the power of a disk too; where that is not possible, those lanes are skipped.
.PHONY: torture
torture: runtime ## kills and power cuts at every durable step for TORTURE=10m; prints a table
	@ICHWATCH_ONNXRUNTIME='$(RUNTIME)' ICHWATCH_REQUIRE_PEERS=1 \
	ICHWATCH_TORTURE='$(TORTURE)' ICHWATCH_TORTURE_SEED='$(TORTURE_SEED)' ICHWATCH_TORTURE_LANES='$(TORTURE_LANES)' \
	go test -count=1 -timeout 0 -parallel 100 -v -run '^TestPromise1_KilledAtEveryStep$$' ./daemon

.PHONY: bench
bench: runtime ## every benchmark
	@ICHWATCH_ONNXRUNTIME='$(RUNTIME)' go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -timeout $(TEST_TIMEOUT) ./...

# Alone, because what else the machine does would be measured too.
.PHONY: throughput
throughput: ## slices/s in and out beside DCMTK and Orthanc; on an idle machine
	@go test -run '^$$' -bench '^BenchmarkThroughput$$' -benchtime $(BENCHTIME) -timeout $(TEST_TIMEOUT) ./daemon/app

.PHONY: deb
deb: ## dist/ichwatch_VERSION_{amd64,arm64}.deb (arm64 needs gcc-aarch64-linux-gnu, libc6-dev-arm64-cross)
	@systemd/deb/build.sh amd64 '$(VERSION)' dist
	@systemd/deb/build.sh arm64 '$(VERSION)' dist

.PHONY: overload
overload: runtime ## a scanner faster than PACS and model for DURATION: memory, answers, backlog
	@ICHWATCH_OVERLOAD='$(DURATION)' ICHWATCH_ONNXRUNTIME='$(RUNTIME)' go test -count=1 -timeout 0 -run '^TestOverload$$' -v ./daemon

.PHONY: lint
lint: ## go vet, gofumpt, staticcheck
	go vet ./... ./.ci/testreport
	go -C systemd/deb vet ./...
	@unformatted=$$(go tool gofumpt -l .); \
	[ -z "$$unformatted" ] || { echo "not formatted (go tool gofumpt -w FILE):"; echo "$$unformatted"; exit 1; } >&2
	go tool staticcheck ./... ./.ci/testreport

.PHONY: vuln
vuln: ## known vulnerabilities in what is called (needs the Go vulnerability database)
	go build ./... # so that what fails below is not the code
	@rc=0; timeout 300 go tool govulncheck ./... || rc=$$?; \
	case $$rc in \
	0) ;; \
	3) exit 3 ;; \
	*) echo "NOT CHECKED: govulncheck gave no answer (exit $$rc); its database may be out of reach" >&2 ;; \
	esac

.PHONY: clean
clean: ## remove what was built and fetched
	rm -rf bin
