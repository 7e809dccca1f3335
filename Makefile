# `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

# Everything is compiled in one way, without cgo and without the paths of this machine: so tests, demo and what ships
# share one build cache.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false

FUNCTIONS := $(patsubst functions/%/main.go,%,$(wildcard functions/*/main.go))
VERSION   ?= $(shell git describe --always --dirty 2>/dev/null || echo dev)
LDFLAGS   := -s -w -X flashtap/functions/internal/boot.Version=$(VERSION) -X main.version=$(VERSION)
# The Lambdas' architecture; the programs that run elsewhere are built for both.
LAMBDA_ARCH ?= arm64

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
ERRCHECK    := github.com/kisielk/errcheck@v1.20.0
INEFFASSIGN := github.com/gordonklaus/ineffassign@v0.2.0
SBOM        := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
# Folders with programs from npm that tests ask for a second opinion.
VALIDATORS  := infra/testdata/validators testutil/iam/testdata/oracle

# Never @latest: that is 3.0.0, published by accident (aws-cdk issue 38113).
CDK := npx --yes aws-cdk@2.1148.1
# What a deployment is told beyond cdk.json, as in make deploy CONTEXT='-c deployment=prod -c retentionDays=365'.
CONTEXT ?=
# CDK warns about Node 20, which has passed its end of life, with every run.
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION := 20

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

demo: ## a finding becomes sealed pcaps on this machine (PCAP= FINDING= DURATION= FILTER= PACKET_LENGTH= OUT= IPV6=1 V=1)
	@go run ./testutil/demo $(if $(PCAP),-pcap '$(PCAP)') $(if $(FINDING),-finding '$(FINDING)') $(if $(DURATION),-duration '$(DURATION)') \
	  $(if $(FILTER),-filter '$(FILTER)') $(if $(PACKET_LENGTH),-packet-length '$(PACKET_LENGTH)') $(if $(OUT),-out '$(OUT)') $(if $(IPV6),-ipv6) $(if $(V),-v)

build: programs sbom ## collector and flashtap (arm64, amd64) and the Lambdas (arm64) as they ship, with SHA256SUMS and SBOMs, under build/

programs: # what build makes, without the SBOMs
	@set -e; for arch in arm64 amd64; do for program in collector cmd/flashtap; do \
	  GOOS=linux GOARCH=$$arch go build -ldflags '$(LDFLAGS)' -o build/$${program#cmd/}-linux-$$arch ./$$program; done; done; \
	for f in $(FUNCTIONS); do mkdir -p build/$$f; \
	  GOOS=linux GOARCH=$(LAMBDA_ARCH) go build -tags lambda.norpc -ldflags '$(LDFLAGS)' -o build/$$f/bootstrap ./functions/$$f; done; \
	cd build && sha256sum *-linux-* $(FUNCTIONS:%=%/bootstrap) > SHA256SUMS && \
	ls -l *-linux-* $(FUNCTIONS:%=%/bootstrap) | awk '{print $$5, $$9}'

sbom: programs # which modules are in each program, as CycloneDX
	@mkdir -p build/sbom && GOBIN=$(CURDIR)/build/tools go install $(SBOM)
	@set -e; for program in $$(cd build && ls *-linux-arm64 *-linux-amd64) $(FUNCTIONS:%=%/bootstrap); do \
	  build/tools/cyclonedx-gomod bin -json -noserial -notimestamp -version '$(VERSION)' -output build/sbom/$${program%/bootstrap}.cdx.json build/$$program 2> build/sbom/log \
	    || { cat build/sbom/log; exit 1; }; done; rm -f build/sbom/log

reproducible: programs ## build once more from a copy of the sources in another folder: the same bytes must come out
	@set -e; copy=$$(mktemp -d); trap 'rm -rf "$$copy"' EXIT; git ls-files -co --exclude-standard -z -- '*.go' 'go.*' Makefile infra functions/plan/data | xargs -0 cp --parents -t "$$copy"; \
	$(MAKE) -C "$$copy" programs VERSION='$(VERSION)' LAMBDA_ARCH='$(LAMBDA_ARCH)' > /dev/null; \
	diff build/SHA256SUMS "$$copy/build/SHA256SUMS" && echo "the same: $$(wc -l < build/SHA256SUMS) programs"

synth: programs ## the CloudFormation templates, validated, under cdk.out/ (no credentials needed)
	rm -rf cdk.out && $(CDK) synth --quiet $(CONTEXT)

diff: programs ## what a deployment would change in the account
	$(CDK) diff $(CONTEXT)

deploy: build ## put Flashtap into the account and Region of the AWS credentials (CONTEXT='-c deployment=prod')
	rm -rf cdk.out && $(CDK) deploy --all --require-approval broadening $(CONTEXT)

destroy: ## take Flashtap out of the account; the evidence stays
	$(CDK) destroy --all $(CONTEXT)

test: ## every test; on a machine without root, Node, Python or tshark those that need them skip and say so
	go test -p 2 -timeout 20m $(TESTFLAGS) ./...

test-root: ## the tests that need root and network namespaces; here they never skip
	CI=true go test -count=1 -p 1 -timeout 20m -run 'Live|Namespace|Interface' ./collector/... ./testutil/bench/... ./testutil/region/dataplane ./testutil/deployment

bench: ## the collector against its peers, all goals (root, 2 CPUs, half an hour; BENCHFLAGS='-only P1,P2 -rounds 3'); raw results in build/
	@mkdir -p build && CGO_ENABLED=0 go build -o build/bench ./testutil/bench
	build/bench goals -json build/bench.jsonl $(BENCHFLAGS)

bench-micro: ## parser, writer, digest and the path of a packet as Go benchmarks, for benchstat
	go test -run '^$$' -bench . -benchmem -count $(or $(COUNT),6) ./collector/vxlan ./collector/segment ./collector/internal/ingest ./collector/pcapfile

soak: ## half the lossless rate for MINUTES=30: no loss, flat memory, no descriptor growth (root)
	@mkdir -p build && CGO_ENABLED=0 go build -o build/bench ./testutil/bench
	build/bench soak -minutes $(or $(MINUTES),30) -json build/soak.jsonl $(SOAKFLAGS)

race: ## the tests of what works in many goroutines, under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race -p 2 -timeout 20m ./collector/... ./testutil/region/asl ./testutil/region/dataplane ./testutil/region/imds ./testutil/region/lambda

validators: ## install what `make test` asks for a second opinion, from npm: of the state machine's language, and of IAM
	@set -e; for folder in $(VALIDATORS); do (cd $$folder && npm ci --ignore-scripts --no-audit --no-fund); done

lint: ## gofmt, go vet, staticcheck, ineffassign, and errcheck for what ships
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	go run $(INEFFASSIGN) ./...
	.ci/errcheck $(ERRCHECK)

check: ## exactly what CI runs
	.ci/run

golden: ## rewrite the golden files; review the difference
	go test -short -count=1 $$(grep -rl --include='*_test.go' 'flag.Bool("update"' . | xargs -n1 dirname | sort -u) -update

fuzz: ## every fuzz target for FUZZTIME=20s
	@set -e; for pkg in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -ho '^func Fuzz[A-Za-z0-9]*' $$pkg/*_test.go | sed 's/func //'); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(or $(FUZZTIME),20s) -fuzzminimizetime 5x $$pkg; done; done

tidy: ## make go.mod and go.sum say what the code imports
	go mod tidy

clean: ## remove what the other targets made
	rm -rf build cdk.out demo-evidence $(VALIDATORS:%=%/node_modules)

.PHONY: help demo build programs sbom reproducible synth diff deploy destroy test test-root bench bench-micro soak race validators lint check golden fuzz tidy clean
