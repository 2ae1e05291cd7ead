# make help lists the targets.

SHELL := bash
GO ?= go
TOOLS := .tools
VERSION ?= $(shell git describe --tags --match 'v*' --always --dirty 2>/dev/null || echo devel)
IMAGE ?= bidder:$(VERSION)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

.PHONY: build
build: ## build bin/bidder
	$(GO) build -o bin/bidder ./cmd/bidder

.PHONY: image
image: ## build the container image bidder:VERSION (IMAGE=NAME:TAG, ARCH=arm64)
	deploy/image.sh $(IMAGE) $(VERSION)

.PHONY: release
release: ## build the archives of a release for all platforms, and their checksums, in dist/
	$(GO) run ./deploy/release -version $(VERSION) -out dist $(TARGETS)

.PHONY: run
run: build ## try it: 50 postings become bids at a marketplace of its own; nothing leaves this machine
	examples/try.sh

.PHONY: test
test: $(TOOLS)/gotestsum ## run all tests on PostgreSQL 17 and 15, in all ways of connecting
	test/all.sh

.PHONY: test-quick
test-quick: ## run all tests once, on PostgreSQL 17 or what is installed
	$(GO) run ./test/testdb/serve -- $(GO) test -race -shuffle=on -count=1 ./...

.PHONY: cover
cover: ## prove 100 % statement coverage of the claim and of the posting's normal form
	$(GO) run ./test/testdb/serve -- test/cover.sh

.PHONY: fuzz
fuzz: ## fuzz every parser that reads from outside, a minute each (TIME=10s)
	test/fuzz.sh $(TIME)

.PHONY: bench
bench: ## measure bidder, raw statements and other tools, and write docs/benchmarks.md (an hour; QUICK=1: minutes, prints only)
	cd test/bench && $(GO) run . -out ../../docs $(if $(QUICK),-quick) $(if $(ONLY),-only '$(ONLY)')

.PHONY: storm
storm: ## let everything go wrong on Docker networks, and check that nothing breaks (SEED=, DURATION=2m, POSTINGS=2000, WORKERS=4)
	$(GO) build -o bin/storm ./test/storm
	@if ! docker version >/dev/null 2>&1; then echo 'storm: SKIPPED, there is no Docker'; exit 0; fi; \
	bin/storm $(if $(SEED),-seed $(SEED)) $(if $(DURATION),-duration $(DURATION)) $(if $(POSTINGS),-postings $(POSTINGS)) $(if $(WORKERS),-workers $(WORKERS))

.PHONY: storm-bugs
storm-bugs: ## seed three bugs, one after the other, and have the storm find each
	$(GO) build -o bin/storm ./test/storm
	for bug in index arm token; do bin/storm -bug $$bug -duration 10m -postings 6000 $(if $(SEED),-seed $(SEED)) $(if $(WORKERS),-workers $(WORKERS)) || exit 1; done

.PHONY: generate
generate: $(TOOLS)/sqlc ## generate the Go of db/queries
	$(TOOLS)/sqlc generate

.PHONY: verify
verify: $(TOOLS)/sqlc ## prove that generated code and go.mod are current
	$(TOOLS)/sqlc diff
	$(GO) mod verify
	$(GO) mod tidy -diff
	cd test/bench && $(GO) mod tidy -diff && $(GO) vet ./...
	cd test/deploy && $(GO) mod tidy -diff

# -count=1: the cache of test results does not see files outside a module change. Of all
# targets, the one that differs most from where this usually runs stands for the others.
.PHONY: test-deploy
test-deploy: ## test what deploy/ holds: the image, the chart, alert rules, the dashboard, an archive
	cd test/deploy && $(GO) test -count=1 ./...
	$(MAKE) release TARGETS=darwin/arm64

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## run all linters
	$(TOOLS)/golangci-lint run --timeout 10m
	cd test/bench && ../../$(TOOLS)/golangci-lint run --timeout 10m
	cd test/deploy && ../../$(TOOLS)/golangci-lint run --timeout 10m

.PHONY: format
format: $(TOOLS)/golangci-lint ## format all Go files
	$(TOOLS)/golangci-lint fmt

# Tools are pinned in a module of their own, so that they never enter the product's go.mod.
$(TOOLS)/sqlc: tools/go.mod
	cd tools && CGO_ENABLED=0 $(GO) build -o ../$@ github.com/sqlc-dev/sqlc/cmd/sqlc

$(TOOLS)/golangci-lint: tools/go.mod
	cd tools && CGO_ENABLED=0 $(GO) build -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(TOOLS)/gotestsum: tools/go.mod
	cd tools && CGO_ENABLED=0 $(GO) build -o ../$@ gotest.tools/gotestsum
