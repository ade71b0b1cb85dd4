# `make help` says what there is. The results of a build are always build/dhow and build/dhowctl.

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo

bindir  = $(DESTDIR)$(PREFIX)/bin
mandir  = $(DESTDIR)$(PREFIX)/share/man/man8
share   = $(DESTDIR)$(PREFIX)/share

.DEFAULT_GOAL := build
.PHONY: build demo test lint bench install clean help

build: ## the release binaries, static: build/dhow and build/dhowctl (default)
	@sh scripts/build.sh

demo: build ## a container from create to delete, each step shown (root)
	@sh scripts/needs.sh demo
	@sh scripts/demo.sh build/dhow

test: ## unit tests without root, then conformance and integration with it
	@sh scripts/needs.sh test
	@sh scripts/test.sh

lint: ## formatting and clippy
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

bench: build ## how long a start takes, beside crun and runc (root; see benches/README.md)
	DHOW=$(CURDIR)/build/dhow python3 benches/start.py $(ARGS)

install: ## to PREFIX (/usr/local), below DESTDIR: binaries, man pages, shell completions
	@[ -x build/dhow ] && [ -x build/dhowctl ] || $(MAKE) build
	install -D -m 755 build/dhow $(bindir)/dhow
	install -D -m 755 build/dhowctl $(bindir)/dhowctl
	install -d $(mandir)
	install -m 644 man/*.8 $(mandir)
	install -D -m 644 completions/dhow.bash $(share)/bash-completion/completions/dhow
	install -D -m 644 completions/_dhow $(share)/zsh/site-functions/_dhow
	install -D -m 644 completions/dhow.fish $(share)/fish/vendor_completions.d/dhow.fish

clean: ## remove build/ and target/
	rm -rf build target

help: ## this
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' Makefile | expand -t 10
