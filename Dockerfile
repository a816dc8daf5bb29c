# The sidecar in a container: docs/packaging.md says how it is built, run and checked.
#
# Both images are named by version; the Rust version is that of rust-toolchain.toml (a test compares
# them). The final image starts from nothing: it holds the binary, the C library that it was linked
# against, and no shell.
FROM docker.io/library/rust:1.95.0-slim-bookworm AS build

# The compiler is in the image: rust-toolchain.toml would have rustup fetch rustfmt and clippy too.
ENV RUSTUP_TOOLCHAIN=1.95.0 CARGO_TERM_COLOR=never

WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin fieldseal

# What the program loads (ldd), the licences of that, and a user to be. Nothing resolves names but
# client commands, which should look into /etc/hosts first.
RUN set -eu; \
    program=target/release/fieldseal; \
    install -D -m 0755 "$program" /image/usr/local/bin/fieldseal; \
    ldd "$program" | grep -o '/[^ ]*' \
        | xargs cp --parents --dereference --target-directory=/image; \
    cp --parents --target-directory=/image \
        /usr/share/doc/libc6/copyright /usr/share/doc/libgcc-s1/copyright; \
    install -D -m 0644 -t /image/usr/share/doc/fieldseal LICENSE-APACHE LICENSE-MIT; \
    install -d -m 0755 /image/etc; \
    echo 'fieldseal:x:65532:65532::/var/lib/fieldseal:/usr/sbin/nologin' >/image/etc/passwd; \
    echo 'fieldseal:x:65532:' >/image/etc/group; \
    echo 'hosts: files dns' >/image/etc/nsswitch.conf; \
    install -d -m 0755 /image/var/lib; \
    install -d -m 1777 /image/tmp; \
    install -d -m 0700 /volumes/var/lib/fieldseal /volumes/etc/fieldseal

FROM scratch
COPY --from=build /image/ /
# New volumes take owner and mode from these two: the state, and the root key apart from it.
COPY --from=build --chown=65532:65532 /volumes/var/lib/ /var/lib/
COPY --from=build --chown=65532:65532 /volumes/etc/ /etc/
VOLUME ["/var/lib/fieldseal", "/etc/fieldseal"]

USER 65532:65532
ENV FIELDSEAL_CONFIG=/var/lib/fieldseal/fieldseal.toml
# The callers' listener, and the plaintext one for probes and metrics.
EXPOSE 7443 7480
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s \
    CMD ["/usr/local/bin/fieldseal", "health"]
ENTRYPOINT ["/usr/local/bin/fieldseal"]
# No CMD: `serve` is stated, so that FIELDSEAL_DEV=1 without arguments can mean `dev`.
