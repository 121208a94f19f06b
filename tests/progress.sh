# Sourced: what takes long says how far it is. On a terminal in one line, each second; else in a line every ten seconds.

# patiently LOG STATE COMMAND...: runs the command with its output in the log, and meanwhile shows what `STATE LOG` says.
patiently() {
    local log=$1 state=$2 ticker status
    shift 2
    touch "$log"
    progress_tick "$log" "$state" &
    ticker=$!
    "$@" >>"$log" 2>&1
    status=$?
    kill "$ticker" 2>/dev/null
    wait "$ticker" 2>/dev/null
    [ ! -t 1 ] || printf '\r\033[K'
    return $status
}

progress_tick() {
    local since=$SECONDS next=2 every=10
    [ ! -t 1 ] || every=1
    while sleep 1 >/dev/null; do
        [ $((SECONDS - since)) -ge $next ] || continue
        next=$((SECONDS - since + every))
        if [ -t 1 ]; then
            printf '\r\033[K%.78s' "  $((SECONDS - since)) s: $("$2" "$1")"
        else
            echo "  $((SECONDS - since)) s: $("$2" "$1")"
        fi
    done
}

progress_last_line() { tail -n 1 "$1" | tr -d '\r' | cut -c1-100; }

# Of meson and ninja.
progress_of_build() {
    local step
    step=$(grep -aoE '^\[[0-9]+/[0-9]+\]' "$1" | tail -n 1)
    echo "building ${step:-is prepared}"
}

# Of `meson test --verbose`: programs begin with RUNNING, their tests begin with an arrow.
progress_of_tests() {
    awk '
        / RUNNING *$/ { split($1, n, "/"); all = n[2]; running[$1] = $4 }
        /^▶ / { tests++ }
        /^ *[0-9]+\/[0-9]+ .* (OK|FAIL|ERROR|TIMEOUT|SKIP) +[0-9.]+s/ { over++; delete running[$1] }
        END {
            for (one in running) names = names " " running[one]
            printf "%d of %d test programs, %d tests; running:%s\n", over, all, tests, names
        }' "$1"
}
