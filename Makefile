# `make help` says what there is. The result of a build is always build/dhow.

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo

bindir  = $(DESTDIR)$(PREFIX)/bin
mandir  = $(DESTDIR)$(PREFIX)/share/man/man8
share   = $(DESTDIR)$(PREFIX)/share

.DEFAULT_GOAL := build
.PHONY: build demo test test-callers test-vm lint bench install clean help

build: ## the release binary, static: build/dhow (default)
	@sh scripts/build.sh

demo: build ## a container from create to delete, each step shown (root)
	@sh scripts/needs.sh demo
	@sh scripts/demo.sh build/dhow

test: ## unit tests without root, then conformance and integration with it
	@sh scripts/needs.sh test
	@sh scripts/test.sh

test-callers: ## Docker, containerd, Podman, Buildah on dhow: all of it, load and tutorials too (root; 15 minutes)
	@sh scripts/needs.sh test-callers
	@sh scripts/test.sh callers

test-vm: ## conformance and integration in a guest with cgroup v2 and systemd (root, QEMU); ARGS="NAME[:FILTER] ..."
	@sh scripts/needs.sh test-vm
	@bash integration/vm/test.sh $(ARGS)

lint: ## formatting and clippy
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

bench: build ## how long a start takes, beside crun and runc (root; see benches/README.md)
	DHOW=$(CURDIR)/build/dhow python3 benches/start.py $(ARGS)

install: ## to PREFIX (/usr/local), below DESTDIR: binary, man pages, shell completions
	@[ -x build/dhow ] || $(MAKE) build
	install -D -m 755 build/dhow $(bindir)/dhow
	install -d $(mandir)
	install -m 644 man/*.8 $(mandir)
	install -D -m 644 completions/dhow.bash $(share)/bash-completion/completions/dhow
	install -D -m 644 completions/_dhow $(share)/zsh/site-functions/_dhow
	install -D -m 644 completions/dhow.fish $(share)/fish/vendor_completions.d/dhow.fish

clean: ## remove build/ and target/
	rm -rf build target

help: ## this
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 14
