# syntax=docker/dockerfile:1
# One image for every role: `docker run … floodgate proxy`, `floodgate deal-service`, …
# The base images are arguments, so that a build can use mirrored ones, pinned by digest:
#   docker build --build-arg RUST_IMAGE=registry.example/rust@sha256:… .
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

# cmake and a C compiler build zlib-ng, zstd and aws-lc, which are linked in.
FROM ${RUST_IMAGE} AS chef
WORKDIR /src
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake gcc libc6-dev make \
 && rm -rf /var/lib/apt/lists/* \
 && cargo install --locked --version 0.1.78 cargo-chef

# The recipe changes only when dependencies do; the layer of compiled dependencies hangs on it.
FROM chef AS planner
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
COPY --from=planner /src/recipe.json recipe.json
RUN cargo chef cook --release --locked --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked --workspace \
 && cp target/release/floodgate /usr/local/bin/floodgate

FROM ${RUNTIME_IMAGE}
LABEL org.opencontainers.image.title="floodgate" \
      org.opencontainers.image.description="Time-deal queue and flash-sale gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /usr/local/bin/floodgate /usr/local/bin/floodgate
USER 65532:65532
STOPSIGNAL SIGTERM
# The image has no shell and no curl: the binary asks an admin port. This is the gate's;
# the other roles say theirs where they are started (docker-compose.yml).
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["/usr/local/bin/floodgate", "healthcheck", "--admin", "127.0.0.1:9101"]
ENTRYPOINT ["/usr/local/bin/floodgate"]
CMD ["--help"]
