ARG RUST=1.90
FROM --platform=$BUILDPLATFORM rust:${RUST}-slim AS build
ARG TARGETARCH
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=target,id=target-$TARGETARCH,sharing=locked \
    cargo build --release && cp target/release/app /app

FROM debian:bookworm AS test
COPY --from=build /app /app
RUN /app --test

FROM gcr.io/distroless/cc
COPY --from=build --chmod=0755 /app /usr/bin/app
USER 65532
ENTRYPOINT ["/usr/bin/app"]
