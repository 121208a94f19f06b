# Sourced by the scripts of this folder: what the interface of a built migbuf is, read three ways.

# Headers of folder $1 that say they are of library $2.
headers_of() { (cd "$1" && grep -lE "^ \* Link with -l$2\.( |$)" ./*.h | sed 's|^\./||'); }

# Functions of those headers, the arguments after folder $1, that are experimental: their header says so, or they do.
experimental() {
    local dir=$1
    shift
    (cd "$dir" && awk '/^\/\*\*/ { own = 0 } /^ \* Link with .* Experimental \(/ { all = FILENAME } /^ \* Experimental \(/ { own = 1 }
        /^MIGBUF_API / && (own || all == FILENAME) { sub(/\(.*/, ""); sub(/.*[ *]/, ""); print }' "$@") | sort -u
}

# Libraries that shared library $1 asks for, without their versions.
needed() { readelf -dW "$1" | sed -nE 's/.*\(NEEDED\).*\[(.*)\.so.*\]$/\1/p' | sort; }

# Functions that the headers of folder $1 export (MIGBUF_API), of the rooms that the files after it name.
declared() {
    local dir=$1
    shift
    (cd "$dir" && cat "$@") | tr '\n' ' ' | grep -oE 'MIGBUF_API [^;(]*\bmigbuf_[a-z0-9_]+\(' | sed -E 's/.*\b(migbuf_[a-z0-9_]+)\($/\1/' | sort -u
}

# Names in the map, whatever their version.
mapped() {
    sed -nE 's/^[[:space:]]+([A-Za-z0-9_*]+);.*/\1/p' "$1" | grep -v '^\*$' | sort -u
}

# What a program can bind to: NAME@VERSION of functions and data.
exported() {
    nm -D --defined-only --with-symbol-versions "$1" | awk '$2 != "A" { sub("@@", "@", $3); print $3 }' | sort -u
}

# Names of the archive that stay visible when it is linked into another shared library, and all global ones.
archived_visible() {
    readelf -sW "$1" | awk '$5 == "GLOBAL" && $6 == "DEFAULT" && $7 != "UND" { print $8 }' | sort -u
}
archived_global() {
    nm --defined-only -g "$1" 2>/dev/null | awk 'NF == 3 { print $3 }' | sort -u
}

# Every MIGBUF_ constant and what it stands for: a program compiled before keeps the old value.
constants() {
    local dir=$1 h
    shift
    for h in "$@"; do echo "#include \"migbuf/$h\""; done | cc -E -dM -I"$dir/.." - |
        sed -nE 's/^#define (MIGBUF_[A-Z0-9_]+) (.+)$/\1 \2/p' |
        grep -vE '^MIGBUF_(VERSION|API)|^MIGBUF_[A-Z0-9_]*_H ' | LC_ALL=C sort
}

# libabigail's description of a library's interface: exported functions, and the types that public headers show.
describe() {
    abidw --exported-interfaces-only --suppressions "${BASH_SOURCE[0]%/*}/private" --no-corpus-path --no-comp-dir-path \
        --no-show-locs --type-id-style hash "$1"
}
