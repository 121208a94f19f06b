# Sourced by tests/run and examples/run: installs Debian packages that are missing, quietly, and says so.
# Needs root only when something is missing.
. "$(dirname "${BASH_SOURCE[0]}")/progress.sh"

install_packages() {
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

need_packages() {
    local missing=() p
    for p in "$@"; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "These packages are missing (Debian's names): ${missing[*]}" >&2
        echo "Install them, or run this as root on Debian." >&2
        return 1
    fi
    echo "Installing ${missing[*]}"
    local log
    log=$(mktemp)
    if ! patiently "$log" progress_last_line install_packages "${missing[@]}" </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        echo "Installing packages failed." >&2
        return 1
    fi
    rm -f "$log"
}
