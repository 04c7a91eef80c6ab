# Builds and checks, in the order in which a newcomer needs them.
# On a machine with only the Rust toolchain, tests/engines/install.sh installs the rest with apt.
.POSIX:
.PHONY: help build demo test test-all fresh lint bench fuzz dist dist-check dist-test dist-bench

CARGO = cargo

help: ## list the targets
	@grep -E '^[a-z-]+: .*##' Makefile | sed -E 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/' | expand -t 12

build: ## the program, at target/release/sealift
	$(CARGO) build --release --locked

demo: ## an image from a registry through an archive into Docker or another registry, its digest kept (builds first)
	demo/run.sh

test: ## all tests, on real engines too (docker 20.10 and 28, containerd 1.6 and 2.1; needs root)
	tests/engines/install.sh
	tests/run.sh

test-all: ## the same with docker 26 and containerd 1.7 besides
	tests/engines/install.sh all
	tests/run.sh --features test-all

fresh: ## make demo and make test on a fresh minimal Debian 12 and 13, each in a folder (needs root)
	tests/engines/install.sh fresh
	tests/fresh.sh

lint: ## format, clippy, links in the documentation, licences and sources of dependencies, scripts, spelling
	tests/engines/install.sh lint
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --features test-all -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --no-deps --document-private-items
	shellcheck -x .ci/run .ci/tool demo/run.sh tests/debian.sh tests/fresh.sh tests/engines/install.sh \
		tests/run.sh tests/goflate/go.sh tests/support/stop.sh src/installer/install.sh packaging/*.sh \
		tests/dist.sh tests/dist-bench.sh tests/dockerd.sh src/cli/complete/sealift.bash
	git ls-files -z | grep -zvE '^testdata|Cargo\.lock$$' | xargs -0 codespell -L crate,ser,oject,righ
	.ci/tool cargo-deny --all-features --locked check bans licenses sources

bench: ## speed and memory beside skopeo's and a plain hash, on one machine in one run
	tests/engines/install.sh
	$(CARGO) bench --locked --bench transfer
	$(CARGO) bench --locked --bench goflate

fuzz: ## every fuzz target for a minute (needs cargo-fuzz; stable Rust will do)
	mkdir -p fuzz/corpus/archive
	find testdata/bad -name '*.tar' -size -40k -exec cp -n {} fuzz/corpus/archive/ \;
	for target in reference challenge documents archive image_list inventory tar_split repositories ssh_signature \
		signature policy; do \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target -- -max_total_time=60 -max_len=40000 || exit 1; \
	done

dist: ## the files of a release, in target/dist: executables for amd64 and arm64, packages, container images
	tests/engines/install.sh dist
	packaging/build.sh
	packaging/packages.sh
	packaging/image.sh
	packaging/sums.sh

dist-check: ## build the release again in another folder, and compare every byte (after make dist)
	packaging/reproduce.sh

dist-test: ## what make dist made, on three releases of Debian, by qemu, and in a Docker (needs root)
	tests/engines/install.sh dist-test
	tests/dist.sh

dist-bench: build ## the released executable beside target/release/sealift (after make dist; needs root)
	tests/dist-bench.sh
