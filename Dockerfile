# Leadlane in a container: the binary, its configuration and its schemas, run by a user without rights.
#   docker build -t leadlane . && docker run --rm leadlane demo --seconds 50
#
# The base images are named by digest, so that the same commit gives the same image; the tag only says what it was. To
# take a newer one, put the digest there that `docker buildx imagetools inspect rust:1.95-bookworm` prints.
# The binary holds the list of what it was built from: `cargo audit bin` and the scanners of images read it.

FROM rust:1.95-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS build
RUN apt-get update && apt-get install -y --no-install-recommends libssl-dev pkg-config && rm -rf /var/lib/apt/lists/*
RUN cargo install --locked cargo-auditable@0.7.7
WORKDIR /build
# For `leadlane --version`: docker build --build-arg LEADLANE_COMMIT="$(git rev-parse --short=12 HEAD)" ...
ARG LEADLANE_COMMIT
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    cargo auditable build --release --locked --bin leadlane && cp target/release/leadlane /leadlane

FROM debian:bookworm-slim@sha256:abd67ffcfa541b485a3dff59865ab629aa048a6c613e639d36e7456b0b229241
RUN apt-get update && apt-get install -y --no-install-recommends libssl3 ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin leadlane
COPY --from=build /leadlane /usr/local/bin/leadlane
WORKDIR /opt/leadlane
COPY config config
COPY schemas schemas
USER 10001
EXPOSE 8080 8081
ENTRYPOINT ["leadlane"]
CMD ["run"]
