# Leadlane in a container: the binary, its configuration and its schemas, run by a user without rights.
#   docker build -t leadlane . && docker run --rm leadlane demo --seconds 25

FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends libssl-dev pkg-config && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin leadlane && cp target/release/leadlane /leadlane

FROM debian:bookworm-slim
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
