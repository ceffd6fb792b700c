# What .ci/run and .ci/full share; sourced from the root of the repository.

CACHE=${OSS_CALLBACK_CI_CACHE:-$HOME/.cache/oss-callback-ci}
SCRATCH=$(mktemp -d)
mkdir -p "$CACHE"

# Compiled dependencies are kept, unless another run is using them: two commits must not share their programs.
exec {lock}>"$CACHE/lock"
if flock --nonblock "$lock"; then
    cache_limit_kb=$((20 * 1024 * 1024))
    if [ -d "$CACHE/target" ] && [ "$(du -sk "$CACHE/target" | cut -f1)" -gt "$cache_limit_kb" ]; then
        rm -rf "$CACHE/target"
    fi
    export CARGO_TARGET_DIR=$CACHE/target
else
    export CARGO_TARGET_DIR=$PWD/target
fi

export CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never
export SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-central-1

DENY_VERSION=0.20.2
DENY=$CACHE/cargo-deny-$DENY_VERSION/bin/cargo-deny
FUZZ_VERSION=0.13.2
FUZZ=$CACHE/cargo-fuzz-$FUZZ_VERSION/bin/cargo-fuzz
VENV=$CACHE/venv-$(cat tests/acceptance/requirements.txt tests/acceptance/constraints.txt | sha256sum | cut -c1-16)
export PYTHON=$VENV/bin/python
PATH=$VENV/bin:$PATH

declare -A jobs=()
passed=0
failed=0

# Whatever is still running in the background ends with this script.
cleanup() {
    local job
    for job in "${jobs[@]}"; do
        kill -- "-$job" 2>/dev/null || true
    done
    rm -rf "$SCRATCH"
}
trap cleanup EXIT

# step HEADING COMMAND...: runs it under a heading and says how long it took. A failure ends the run.
step() {
    local heading=$1 begun=$SECONDS
    shift
    printf '\n== %s\n' "$heading"
    "$@"
    printf -- '-- %s: %d s\n' "$heading" $((SECONDS - begun))
}

# background NAME COMMAND...: starts it in a process group of its own, its output kept for `await NAME`.
background() {
    local name=$1
    shift
    set -m
    "$@" >"$SCRATCH/$name.log" 2>&1 </dev/null &
    set +m
    jobs[$name]=$!
}

# await NAME: waits for it, and shows its output if it failed.
await() {
    local job=${jobs[$1]}
    unset "jobs[$1]"
    if ! wait "$job"; then
        cat "$SCRATCH/$1.log"
        return 1
    fi
}

# Made beside its place and moved there whole, so that a broken installation is never taken for a good one.
install_python() {
    if [ ! -e "$VENV/complete" ]; then
        rm -rf "$VENV"
        python3 -m venv "$VENV"
        "$VENV/bin/pip" install --quiet --disable-pip-version-check \
            -r tests/acceptance/requirements.txt -c tests/acceptance/constraints.txt
        touch "$VENV/complete"
    fi
}

install_cargo_deny() {
    if [ ! -x "$DENY" ]; then
        env -u CARGO_TARGET_DIR \
            cargo install cargo-deny --version "$DENY_VERSION" --locked --debug --root "${DENY%/bin/*}"
    fi
}

install_cargo_fuzz() {
    if [ ! -x "$FUZZ" ]; then
        env -u CARGO_TARGET_DIR \
            cargo install cargo-fuzz --version "$FUZZ_VERSION" --locked --debug --root "${FUZZ%/bin/*}"
    fi
}

# Every fuzz target for $OSS_CALLBACK_FUZZ_SECONDS (default 15), from its seeds and from what earlier runs found. Without
# a sanitizer, which safe code does without, no nightly toolchain is needed; a C++ compiler is.
fuzz() {
    local target found
    cargo fmt --manifest-path standin/fuzz/Cargo.toml --check
    cargo fetch --locked --manifest-path standin/fuzz/Cargo.toml
    for target in $("$FUZZ" list --fuzz-dir standin/fuzz); do
        found=$CACHE/fuzz/$target
        mkdir -p "$found"
        RUST_BACKTRACE=0 "$FUZZ" run --sanitizer none --fuzz-dir standin/fuzz "$target" \
            "$found" "standin/fuzz/corpus/$target" -- \
            -max_total_time="${OSS_CALLBACK_FUZZ_SECONDS:-15}" -verbosity=0 -print_final_stats=1
    done
}

# Chromium for the pages, ffmpeg for the films, strace to kill by. As root, or by sudo without a question.
install_debian_packages() {
    local missing=() as_root=()
    [ -x /usr/bin/chromium ] || missing+=(chromium)
    [ -x /usr/bin/ffmpeg ] || missing+=(ffmpeg)
    [ -x /usr/bin/strace ] || missing+=(strace)
    if [ ${#missing[@]} -gt 0 ]; then
        [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
        "${as_root[@]}" apt-get update --quiet
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
    fi
}

# rust_clients COMMAND...: cargo in the workspace of the Rust clients, where sdk_rust.py looks for what it builds.
rust_clients() {
    CARGO_TARGET_DIR=$CARGO_TARGET_DIR/clients-rust cargo "$1" --manifest-path tests/clients/rust/Cargo.toml "${@:2}"
}

lint_template() {
    sam validate --lint
    cfn-lint template.yaml
}

# accept COMMAND...: runs an acceptance script and adds up the counts of its last line. A failure does not end the run.
accept() {
    local begun=$SECONDS status counts script_passed script_failed
    printf '\n== Acceptance: %s\n' "$*"
    set +e
    "$@" | tee "$SCRATCH/acceptance"
    status=${PIPESTATUS[0]}
    set -e
    printf -- '-- %s: %d s\n' "$*" $((SECONDS - begun))

    counts=$(tail -n 1 "$SCRATCH/acceptance")
    if [[ $counts =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        script_passed=${BASH_REMATCH[1]} script_failed=${BASH_REMATCH[2]}
    else
        echo "no count at the end of: $*"
        script_passed=0 script_failed=1
    fi
    if [ "$status" -ne 0 ] && [ "$script_failed" -eq 0 ]; then
        echo "exit code $status, but no failed check, from: $*"
        script_failed=1
    fi
    passed=$((passed + script_passed))
    failed=$((failed + script_failed))
}

run_acceptance() {
    accept python tests/acceptance/dependency_graph.py
    accept python tests/acceptance/sdk_python.py
    accept node tests/acceptance/sdk_node.mjs
    accept python tests/acceptance/standin_python.py
    accept python tests/acceptance/standin_node.py
    accept python tests/acceptance/standin_browser.py
    accept python tests/acceptance/large_upload.py
    accept python tests/acceptance/sdk_go.py
    accept python tests/acceptance/sdk_java.py
    accept python tests/acceptance/sdk_rust.py
    accept python tests/acceptance/printed_examples.py
    accept python tests/acceptance/lambda_edge.py
    accept python tests/acceptance/lambda_stream.py
    accept python tests/acceptance/kill.py --positions=40
    accept python tests/acceptance/store_faults.py
    accept python tests/acceptance/outages.py
    accept python tests/acceptance/soak.py --seconds=60
}

# The count of all acceptance checks; fails if one of them did.
finish() {
    printf '\n== Done in %d s\n' "$SECONDS"
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}
