# `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash

FUNCTIONS := $(patsubst functions/%/main.go,%,$(wildcard functions/*/main.go))
VERSION   ?= $(shell git describe --always --dirty 2>/dev/null || echo dev)
LDFLAGS   := -s -w -X flashtap/functions/internal/boot.Version=$(VERSION) -X main.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GO_FILES  := $(shell git ls-files '*.go')

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

demo: ## a finding becomes sealed pcaps on this machine (PCAP= FINDING= DURATION= FILTER= PACKET_LENGTH= OUT= IPV6=1 V=1)
	@go run ./testutil/demo $(if $(PCAP),-pcap '$(PCAP)') $(if $(FINDING),-finding '$(FINDING)') $(if $(DURATION),-duration '$(DURATION)') \
	  $(if $(FILTER),-filter '$(FILTER)') $(if $(PACKET_LENGTH),-packet-length '$(PACKET_LENGTH)') $(if $(OUT),-out '$(OUT)') $(if $(IPV6),-ipv6) $(if $(V),-v)

build: ## the collector and the Lambdas as they ship: static, linux/arm64 and linux/amd64, under build/
	@set -e; for arch in arm64 amd64; do \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -ldflags '$(LDFLAGS)' -o build/collector-linux-$$arch ./collector; done; \
	for f in $(FUNCTIONS); do mkdir -p build/$$f; \
	  CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go build -trimpath -tags lambda.norpc -ldflags '$(LDFLAGS)' -o build/$$f/bootstrap ./functions/$$f; done; \
	ls -l build/collector-linux-* build/*/bootstrap | awk '{print $$5, $$9}'

test: ## every test that needs neither root nor the network beyond the package registries
	go test -p 2 -timeout 20m ./...

test-root: ## the tests that need root and network namespaces; they never skip here
	CI=true go test -count=1 -timeout 10m -run 'Live|Namespace|Interface' ./testutil/region/dataplane ./testutil/deployment

lint: ## gofmt, go vet, staticcheck
	@out=$$(gofmt -l $(GO_FILES)); [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...

check: ## exactly what CI runs
	.ci/run

golden: ## rewrite the golden files; review the difference
	go test ./infra/... ./events/... ./cmd/... -update

fuzz: ## every fuzz target for 20 seconds each
	@set -e; for pkg in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -ho '^func Fuzz[A-Za-z0-9]*' $$pkg/*_test.go | sed 's/func //'); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime 20s $$pkg; done; done

clean: ## remove what the other targets made
	rm -rf build demo-evidence

.PHONY: help demo build test test-root lint check golden fuzz clean
