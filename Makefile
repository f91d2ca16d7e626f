# Targets for users: build, run, test, bench, interop, clean. `make help` lists them.

BIN      ?= bin
TOOLS    := $(CURDIR)/.tools
GO       ?= go
export PATH := $(TOOLS):$(PATH)

# Reference handlers are what users get; fixtures are handlers that exist for tests only.
HANDLERS := echo adder
FIXTURES := sleeper badhandler scripted

.PHONY: help build run test bench soak interop generate check-format check-vet check-lint check-generated check-go tools clean

help:
	@echo "make build    bin/blocksd, bin/plugins and bin/testplugins"
	@echo "make run      build, then a whole network on this machine with the reference handlers"
	@echo "make test     everything that must pass: format, vet, lint, generated code, all tests with the race detector"
	@echo "make bench    measure, as ratios in one run"
	@echo "make soak     kill the daemon 200 times under load (BLOCKSD_SOAK=N: N times) and look at every task"
	@echo "make interop  test against Blocks' own SDK (installs it from PyPI, under its own licence, into e2e/interop/.cache)"

# Modes are set whatever the umask is: a plugins directory that others may write to is refused by the daemon, and so is
# one below a directory that they may write to.
build:
	@chmod go-w .
	@mkdir -p $(BIN)/plugins $(BIN)/testplugins
	$(GO) build -trimpath -o $(BIN)/blocksd .
	@set -e; for h in $(HANDLERS); do \
	  $(GO) build -trimpath -o $(BIN)/plugins/$$h ./handlers/$$h; \
	  install -m 0644 handlers/$$h/agent-card.json $(BIN)/plugins/$$h.agent-card.json; \
	done
	@set -e; for h in $(FIXTURES); do \
	  $(GO) build -trimpath -o $(BIN)/testplugins/$$h ./handlers/internal/$$h; \
	  install -m 0644 handlers/internal/$$h/agent-card.json $(BIN)/testplugins/$$h.agent-card.json; \
	done
	@chmod 0755 $(BIN) $(BIN)/plugins $(BIN)/testplugins $(BIN)/blocksd \
	  $(HANDLERS:%=$(BIN)/plugins/%) $(FIXTURES:%=$(BIN)/testplugins/%)

run: build
	@exec $(BIN)/blocksd dev --plugins $(BIN)/plugins

test: check-format check-vet check-lint check-generated check-go

check-format:
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not formatted by gofmt: $$out"; exit 1; }

check-vet:
	$(GO) vet ./...

check-lint: $(TOOLS)/staticcheck
	staticcheck ./...

check-generated: $(TOOLS)/buf $(TOOLS)/protoc-gen-go
	cd proto && buf lint
	@rm -rf $(TOOLS)/generated && mkdir -p $(TOOLS)/generated && cp -r proto $(TOOLS)/generated/ && cd $(TOOLS)/generated/proto && buf generate
	@diff -r proto $(TOOLS)/generated/proto || { echo "generated code is out of date: run 'make generate' and commit the result"; exit 1; }

check-go: e2e/interop/pubnub/node_modules e2e/interop/.cache/pubnub-10.8.0
	scripts/gotest ./...

bench:
	scripts/bench

soak:
	BLOCKSD_SOAK=$${BLOCKSD_SOAK:-200} go test -run '^TestKill$$' -v -count 1 -timeout 60m ./e2e

interop: e2e/interop/.cache/blocks-1.0.23 e2e/interop/.cache/blocks-0.1.67 e2e/interop/.cache/cli
	@echo "The Blocks SDK and CLI come under a licence of their own; they are used unmodified and never shipped with blocksd."
	BLOCKSD_INTEROP=1 scripts/gotest ./e2e/interop/blocks/...

generate: $(TOOLS)/buf $(TOOLS)/protoc-gen-go
	cd proto && buf generate

# Tools are pinned: buf and staticcheck in tools/go.mod, the protoc plugins in go.mod.
$(TOOLS)/buf $(TOOLS)/staticcheck &: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	cd tools && $(GO) build -o $(TOOLS)/ tool

$(TOOLS)/protoc-gen-go: go.mod
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc

# Clients that nobody here wrote. Without npm the tests that need it skip and say so.
e2e/interop/pubnub/node_modules: e2e/interop/pubnub/package-lock.json
	@if command -v npm >/dev/null; then cd e2e/interop/pubnub && npm ci --no-audit --no-fund --loglevel=error && touch node_modules; \
	else echo "npm is not installed: the tests with the npm package pubnub will skip"; fi

e2e/interop/.cache/pubnub-10.8.0: e2e/interop/pubnub/requirements.txt
	@if python3 -c 'import venv, ensurepip' 2>/dev/null; then \
	  python3 -m venv $@ && $@/bin/pip install --quiet --disable-pip-version-check --no-deps -r $< && touch $@; \
	else echo "python3 with venv is not installed: the tests with the PyPI package pubnub will skip"; fi

e2e/interop/.cache/blocks-%: e2e/interop/blocks/requirements-%.txt
	python3 -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

# Blocks' command line interface, pinned by the lock file.
e2e/interop/.cache/cli: e2e/interop/blocks/cli/package-lock.json
	@mkdir -p $@
	cp e2e/interop/blocks/cli/package.json e2e/interop/blocks/cli/package-lock.json $@/
	cd $@ && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

clean:
	rm -rf $(BIN) $(TOOLS) e2e/interop/.cache e2e/interop/pubnub/node_modules
