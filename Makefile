# Targets for users: build, run, test, bench, soak, interop, e2e-systemd, generate, clean. `make help` lists them.

BIN      ?= bin
# Relative, because names of targets cannot hold a space and the path of this directory may.
TOOLS    := .tools
GO       ?= go
export PATH := $(CURDIR)/$(TOOLS):$(PATH)
# -race, or nothing where there is no C compiler. Everything that compiles in `make test` does it in the same way, so that
# each package is compiled once.
RACE      = $(shell scripts/race)

# Reference handlers are what users get; fixtures are handlers that exist for tests only.
HANDLERS := echo adder orchestrator echostream bidichat stocksim advancedstream chat
FIXTURES := sleeper badhandler scripted

PYTHON_PB := pluginsdk/python/blocksd/_pb

.NOTPARALLEL:
.PHONY: help build run test bench soak interop e2e-systemd e2e-systemd-smoke generate baseline check-needs check-format check-size check-lint check-generated check-go test-skipped tools clean

help:
	@echo "make build     bin/blocksd, bin/blocksd-exec, bin/plugins and bin/testplugins"
	@echo "make run       build, then a whole network on this machine with the reference handlers"
	@echo "make test      everything that must pass: format, lint, generated code, vet and all tests with the race detector"
	@echo "make bench     measure, as ratios in one run"
	@echo "make soak      kill the daemon 200 times under load (BLOCKSD_SOAK=N: N times) and look at every task"
	@echo "make interop   test against Blocks' own SDK (installs it from PyPI, under its own licence, into e2e/interop/.cache)"
	@echo "make e2e-systemd  boot a Debian in qemu and try the service there, as the manual says (e2e-systemd-smoke: the first part)"
	@echo "make package   deb and rpm for amd64 and arm64 in bin/packages, the same bytes for the same commit"
	@echo "make generate  generate code from proto/, after a change there"

# Modes are set whatever the umask is: a plugins directory that others may write to is refused by the daemon, and so is
# one below a directory that they may write to. Without cgo, as the packages have it: less is loaded at each start.
build:
	@chmod go-w .
	@mkdir -p "$(BIN)/plugins" "$(BIN)/testplugins"
	CGO_ENABLED=0 $(GO) build -trimpath -o "$(BIN)/blocksd" .
	CGO_ENABLED=0 $(GO) build -trimpath -o "$(BIN)/blocksd-exec" ./handlers/exec
	@set -e; for h in $(HANDLERS); do \
	  CGO_ENABLED=0 $(GO) build -trimpath -o "$(BIN)/plugins/$$h" ./handlers/$$h; \
	  install -m 0644 handlers/$$h/agent-card.json "$(BIN)/plugins/$$h.agent-card.json"; \
	done
	@set -e; for h in $(FIXTURES); do \
	  CGO_ENABLED=0 $(GO) build -trimpath -o "$(BIN)/testplugins/$$h" ./handlers/internal/$$h; \
	  install -m 0644 handlers/internal/$$h/agent-card.json "$(BIN)/testplugins/$$h.agent-card.json"; \
	done
	@chmod 0755 "$(BIN)" "$(BIN)/plugins" "$(BIN)/testplugins" "$(BIN)/blocksd" "$(BIN)/blocksd-exec"
	@for h in $(HANDLERS); do chmod 0755 "$(BIN)/plugins/$$h"; done; for h in $(FIXTURES); do chmod 0755 "$(BIN)/testplugins/$$h"; done

run: build
	@exec "$(BIN)/blocksd" dev --plugins "$(BIN)/plugins"

test: check-needs check-format check-generated check-lint check-go

check-needs:
	@scripts/needs
	@scripts/fetch "what blocksd is built from and tested with" -test ./...

check-format: check-size
	@out=$$(git ls-files -z '*.go' | xargs -0 gofmt -l); test -z "$$out" || { echo "not formatted by gofmt: $$out"; exit 1; }

# What is this large was built, and does not belong into the repository.
check-size:
	@out=$$(git ls-files -z | xargs -0 sh -c 'find "$$@" -maxdepth 0 -size +1024k' sh); test -z "$$out" || { echo "larger than a MiB: $$out: remove it with 'git rm --cached'"; exit 1; }

# -checks and settings are staticcheck's own. It asks the go command to compile: with the race detector, like the tests.
check-lint: $(TOOLS)/staticcheck
	@GOFLAGS="$$GOFLAGS $(RACE)" scripts/step "staticcheck, and compiling what it needs" staticcheck ./...

# buf takes longer to build than all the rest. Where nothing has changed since it looked, only CI has it look again.
check-generated:
	@if test -z "$$CI" && scripts/generated unchanged; then :; else $(MAKE) --no-print-directory check-proto; fi

.PHONY: check-proto
check-proto: $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/python-proto
	cd proto && buf lint
	@cd proto && buf breaking --against baseline.binpb || { echo "the contract breaks what was released: see proto/baseline.md"; exit 1; }
	@rm -rf $(TOOLS)/generated && mkdir -p $(TOOLS)/generated && cp -r proto $(TOOLS)/generated/ && cd $(TOOLS)/generated/proto && buf generate
	@cd proto && buf build --exclude-source-info --path blocks/handler/v1 -o - | cmp -s - ../pluginsdk/node/lib/handler.binpb || { echo "pluginsdk/node/lib/handler.binpb is out of date: run 'make generate' and commit the result"; exit 1; }
	@diff -r proto $(TOOLS)/generated/proto || { echo "generated code is out of date: run 'make generate' and commit the result"; exit 1; }
	@rm -rf $(TOOLS)/generated-python && cp -r $(PYTHON_PB) $(TOOLS)/generated-python && scripts/python-proto $(TOOLS)/python-proto/bin/python $(TOOLS)/generated-python
	@diff -r -x __pycache__ $(PYTHON_PB) $(TOOLS)/generated-python || { echo "generated code is out of date: run 'make generate' and commit the result"; exit 1; }
	@scripts/generated unchanged || { echo "proto/checked.sum is out of date: run 'make generate' and commit the result"; exit 1; }

FETCHED := $(TOOLS)/nfpm pluginsdk/node/node_modules pluginsdk/python/.venv examples/rust/target/release/wordcount e2e/interop/pubnub/node_modules e2e/interop/.cache/pubnub-10.8.0
check-go: $(FETCHED)
	@$(GO) run ./scripts/gotest $(RACE) $(if $(SKIPPED),-note "$(SKIPPED)") ./...

# The tests that an ordinary user's `make test SKIPPED=FILE` has skipped, for root.
test-skipped: $(FETCHED)
	@$(GO) run ./scripts/gotest $(RACE) -only "$(SKIPPED)"

# The version is that of the tag; between two tags it is that of the next release with the commit.
.PHONY: package
package: $(TOOLS)/nfpm
	scripts/package "$(BIN)/packages"

bench:
	scripts/bench

soak:
	BLOCKSD_SOAK=$${BLOCKSD_SOAK:-200} $(GO) test -run '^TestKill$$' -v -count 1 -timeout 60m ./e2e

interop: check-needs pluginsdk/node/node_modules pluginsdk/python/.venv e2e/interop/.cache/blocks-1.0.23 e2e/interop/.cache/blocks-0.1.67 e2e/interop/.cache/cli
	@echo "The Blocks SDK and CLI come under a licence of their own; they are used unmodified and never shipped with blocksd."
	@BLOCKSD_INTEROP=1 $(GO) run ./scripts/gotest $(RACE) ./e2e/interop/blocks/...

generate: $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/python-proto
	cd proto && buf lint && buf breaking --against baseline.binpb && buf generate
	cd proto && buf build --exclude-source-info --path blocks/handler/v1 -o ../pluginsdk/node/lib/handler.binpb
	scripts/python-proto $(TOOLS)/python-proto/bin/python $(PYTHON_PB)
	@scripts/generated accept

# The service as it is shipped, under a systemd that is process 1 of a Debian in qemu. The smoke is what CI runs.
e2e-systemd-smoke: check-needs
	@echo "making a Debian, once, and booting it in qemu: this takes some minutes"
	@BLOCKSD_SYSTEMD=smoke $(GO) run ./scripts/gotest $(RACE) ./e2e/systemd

e2e-systemd: check-needs $(TOOLS)/nfpm
	BLOCKSD_SYSTEMD=full $(GO) test -v -count 1 -timeout 3h ./e2e/systemd

# The contract that was released last, which later ones must not break.
baseline: $(TOOLS)/buf
	@test -n "$(REASON)" || { echo "say why the contract may change: make baseline REASON='…'"; exit 1; }
	cd proto && buf build --exclude-source-info -o baseline.binpb
	@echo "* $$(date -u +%Y-%m-%d): $(REASON)" >>proto/baseline.md
	@$(MAKE) --no-print-directory generate

# Tools are pinned: buf, staticcheck and nfpm in tools/go.mod, the protoc plugins in go.mod.
tools: $(TOOLS)/buf $(TOOLS)/staticcheck $(TOOLS)/nfpm $(TOOLS)/protoc-gen-go

$(TOOLS)/buf: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	@cd tools && ../scripts/fetch "what buf is built from" github.com/bufbuild/buf/cmd/buf
	@scripts/step "building buf, once; this takes some minutes" $(GO) build -C tools -trimpath -o "$(CURDIR)/$@" github.com/bufbuild/buf/cmd/buf

$(TOOLS)/staticcheck: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	@cd tools && ../scripts/fetch "what staticcheck is built from" honnef.co/go/tools/cmd/staticcheck
	@scripts/step "building staticcheck, once" $(GO) build -C tools -trimpath -o "$(CURDIR)/$@" honnef.co/go/tools/cmd/staticcheck

$(TOOLS)/nfpm: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	@cd tools && ../scripts/fetch "what nfpm is built from" github.com/goreleaser/nfpm/v2/cmd/nfpm
	@scripts/step "building nfpm, once" $(GO) build -C tools -trimpath -o "$(CURDIR)/$@" github.com/goreleaser/nfpm/v2/cmd/nfpm

$(TOOLS)/protoc-gen-go: go.mod
	@mkdir -p $(TOOLS)
	GOBIN="$(CURDIR)/$(TOOLS)" $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc

$(TOOLS)/python-proto: pluginsdk/python/requirements-generate.txt
	@echo "fetching protoc for Python into $@"
	@python3 -m venv $@ && $@/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

# Clients that nobody here wrote. Without npm the tests that need it skip and say so.
e2e/interop/pubnub/node_modules: e2e/interop/pubnub/package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "fetching the npm package pubnub 12.0.3 and what it needs into $@" && \
	  cd e2e/interop/pubnub && npm ci --no-audit --no-fund --loglevel=error && touch node_modules; \
	else echo "npm is not installed: the tests with the npm package pubnub will skip"; fi

# What the SDK for Node.js needs of others.
pluginsdk/node/node_modules: pluginsdk/node/package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "fetching what pluginsdk/node needs into $@" && \
	  cd pluginsdk/node && npm ci --no-audit --no-fund --loglevel=error && touch node_modules; \
	else echo "npm is not installed: the tests with handlers in Node.js will skip"; fi

examples/rust/target/release/wordcount: examples/rust/Cargo.lock $(wildcard examples/rust/src/*.rs) $(wildcard proto/blocks/handler/v1/*.proto)
	@if command -v cargo >/dev/null; then \
	  scripts/step "building the example in Rust, and fetching what it needs" cargo build --quiet --release --locked --manifest-path examples/rust/Cargo.toml; \
	else echo "cargo is not installed: the test with a handler in Rust will skip"; fi

# pip is called by python: the first line of its script cannot hold a path with a space.
e2e/interop/.cache/pubnub-10.8.0: e2e/interop/pubnub/requirements.txt
	@if python3 -c 'import venv, ensurepip' 2>/dev/null; then \
	  echo "fetching the PyPI package pubnub 10.8.0 and what it needs into $@" && \
	  python3 -m venv $@ && $@/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $< && touch $@; \
	else echo "python3 with venv is not installed: the tests with the PyPI package pubnub will skip"; fi

# What pluginsdk/python needs and is tested with.
pluginsdk/python/.venv: pluginsdk/python/requirements-test.txt
	@if python3 -c 'import venv, ensurepip, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
	  echo "fetching what pluginsdk/python is tested with into $@" && \
	  python3 -m venv $@ && $@/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $< && touch $@; \
	else echo "python3 3.10 or newer with venv is not installed: the tests with handlers in Python will skip"; fi

e2e/interop/.cache/blocks-%: e2e/interop/blocks/requirements-%.txt
	@echo "fetching the PyPI package blocks-network $* and what it needs into $@"
	python3 -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

# Blocks' command line interface, pinned by the lock file.
e2e/interop/.cache/cli: e2e/interop/blocks/cli/package-lock.json
	@echo "fetching the npm package @blocks-network/cli-linux-x64 into $@"
	@mkdir -p $@
	cp e2e/interop/blocks/cli/package.json e2e/interop/blocks/cli/package-lock.json $@/
	cd $@ && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

clean:
	rm -rf "$(BIN)" $(TOOLS) e2e/systemd/.cache e2e/interop/.cache e2e/interop/pubnub/node_modules pluginsdk/node/node_modules pluginsdk/python/.venv examples/rust/target
