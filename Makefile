GO ?= go
FOR ?= 1m

.PHONY: help fmt lint test race fuzz bench chart docs soak vuln deps

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

fmt: ## format all Go files
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')

lint: ## gofmt, vet, staticcheck, tidy modules, builds for other systems
	scripts/lint

test: deps lint vuln race ## the whole gate: everything below but fuzz, bench and soak

race: ## all tests with the race detector
	cd bench/ssebench && $(GO) test -race ./...
	$(GO) test -race -timeout=9m ./...

fuzz: ## each fuzz target for FOR (1m)
	scripts/fuzz $(FOR)

bench: ## measure ratios, one table; BENCH=log,replay for some groups, ROW='M1 ' for some rows, ROUNDS=5
	$(GO) run ./bench $(if $(BENCH),-only=$(BENCH)) $(if $(ROW),-row='$(ROW)') $(if $(ROUNDS),-rounds=$(ROUNDS))

chart: ## have helm check the chart of deploy/
	scripts/chart

docs: ## the reference of the configuration, from its structs
	scripts/docs

soak: ## kill -9, trim and restart under load for FOR (1m)
	SOAK=$(FOR) $(GO) test -run=Soak -count=1 -timeout=0 -v ./e2e

vuln: ## known vulnerabilities, if the database can be reached
	scripts/vuln

deps: ## what the tests need besides Go: browsers, proxies, checkers of deploy/
	scripts/deps
