# A manual page out of a public header: awk -f man.awk -v version=0.1.0 buffer.h > migbuf_buffer.3
# The comment of @file is the description, its first sentence what NAME says; every declaration follows with its own comment.
# All functions are in NAME, so that `man migbuf_buffer_tick` finds its page, and in SYNOPSIS as they are called. What stands
# indented keeps its lines, but for those that are wider than a terminal of 80 columns leaves: a table's last column is filled
# anew, or goes below the line where it begins far right.
#
# Quotes, carets and tildes are what one types, not what looks nicer. Where a terminal has no Greek letters (LANG=C) their names
# stand for them; lines are folded so that these fit, too. A header that a sentence names is its page: link.h is migbuf_link(3).
function quote(s) {
    gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); gsub(/'/, "\\(aq", s); gsub(/`/, "\\(ga", s)
    gsub(/\^/, "\\(ha", s); gsub(/~/, "\\(ti", s)
    if (s ~ /^\./) s = "\\&" s
    return s
}
function plain(s) { gsub(/\*\*/, "", s); while (match(s, /(^|[ (])\*[^* ]([^*]*[^* ])?\*([ .,;:)]|$)/)) s = without_stars(s); gsub(/\\\\/, "\\", s); return s }
function without_stars(s,   part) { # the first *emphasis*
    part = substr(s, RSTART, RLENGTH); gsub(/\*/, "", part)
    return substr(s, 1, RSTART - 1) part substr(s, RSTART + RLENGTH)
}
# A header is named by its page.
function with_pages(s,   word, done) {
    while (match(s, /[a-z_\/"]*\.h/)) {
        word = substr(s, RSTART, RLENGTH)
        done = done substr(s, 1, RSTART - 1) (word in page_name ? page_name[word] : word)
        s = substr(s, RSTART + RLENGTH)
    }
    return done s
}
BEGIN {
    page_name["migbuf.h"] = "migbuf(3)"
    rooms = split(see, room_of, "\n")
    for (i = 1; i <= rooms; i++) if (room_of[i] ~ /^\.BR migbuf_/) {
        split(room_of[i], part, " ")
        page_name[substr(part[2], 8) ".h"] = part[2] "(3)"
    }
    width = 71; bytes = length("Ω") > 1 # some count bytes; others do not even read this range
    more_of_letter = "[\200-\277]"
    letters = split("Ω ω γ Π Σ Δ ε α", letter, " ")
    split("Omega omega gamma Pi Sigma Delta epsilon alpha", word_of, " ")
    split("*W *w *g *P *S *D *e *a", glyph, " ")
}
function columns(s) { if (bytes) gsub(more_of_letter, "", s); return length(s) }
# As wide as it may become.
function widest(s,   i) { for (i = 1; i <= letters; i++) gsub(letter[i], word_of[i], s); return columns(s) }
function spaces(n) { return sprintf("%" n "s", "") }
function indent_of(s) { match(s, /^ */); return RLENGTH }
# Words behind `first`, each further line behind `hang` spaces. A "\001" is a space that is no place to break.
function fill(first, words, hang,   n, i, word, line, empty) {
    n = split(words, word, " ")
    line = first; empty = 1
    for (i = 1; i <= n; i++) {
        if (!empty && widest(line) + 1 + widest(word[i]) > width) { put_line(line); line = spaces(hang); empty = 1 }
        line = line (empty ? "" : " ") word[i]; empty = 0
    }
    put_line(line)
}
function put_line(s) { gsub(/\001/, " ", s); print quote(s) }
# The columns of a line, told apart by two spaces or more (two behind ; or , are none): part[], in bytes from at[].
function split_columns(s, part, at,   n, done, gap) {
    n = 1; done = at[1] = indent_of(s); part[1] = s = substr(s, done + 1)
    while (match(s, /[^ ]   *[^ ]/)) {
        gap = RSTART + RLENGTH - 1
        if (RLENGTH > 4 || substr(s, RSTART, 1) !~ /[;,]/) {
            part[n] = substr(part[n], 1, done + RSTART - at[n]); at[++n] = done + gap - 1; part[n] = substr(s, gap)
        }
        done += gap - 1; s = substr(s, gap)
    }
    return n
}
# Lines kept[1 .. kept_count]. What is too wide is folded: in its last column that begins on the left, with the lines that
# continue it; columns further right go below.
function print_kept(   i, j, k, n, h, part, at, wide, column) {
    for (i = 1; i <= kept_count; i = j) {
        n = split_columns(kept[i], part, at)
        h = 1
        for (k = 2; k <= n; k++) if (columns(substr(kept[i], 1, at[k])) <= 30) h = k
        wide = widest(kept[i]) > width
        for (j = i + 1; j <= kept_count; j++) {
            for (k = n; k >= h && k > 1 && columns(substr(kept[i], 1, at[k])) != indent_of(kept[j]); k--) ;
            if (k < h || k < 2) break
            wide = wide || widest(kept[j]) > width
            part[k] = part[k] " " substr(kept[j], indent_of(kept[j]) + 1)
        }
        if (!wide) { for (; i < j; i++) print quote(kept[i]); continue }
        column = columns(substr(kept[i], 1, at[h]))
        fill(substr(kept[i], 1, at[h]), part[h], h > 1 ? column : column + 4)
        for (k = h + 1; k <= n; k++) fill(spaces(column + 4), part[k], column + 4)
    }
    kept_count = 0
}
# Arguments are broken after commas, below the parenthesis where that leaves room.
function print_call(s,   n, i, part, line, head, hang, longest) {
    gsub(/\n */, " ", s)
    if (columns(s) <= width) { print quote(s); return }
    hang = index(s, "(")
    n = split(substr(s, hang + 1), part, /, /)
    for (i = 1; i <= n; i++) if (columns(part[i]) > longest) longest = columns(part[i])
    line = substr(s, 1, hang); head = 1
    if (hang + longest >= width) { print quote(line); hang = 8; line = spaces(8) }
    for (i = 1; i <= n; i++) {
        part[i] = part[i] (i < n ? "," : "")
        if (!head && columns(line) + 1 + columns(part[i]) > width) { print quote(line); line = spaces(hang); head = 1 }
        line = line (head ? "" : " ") part[i]; head = 0
    }
    print quote(line)
}
# A declaration: comments of a struct's fields stand in one column.
function print_declaration(s,   n, i, part, line, head, comment, column) {
    if (s ~ /^#define/) { fill("", s, 8); return }
    if (s !~ /^struct [a-z_]+ \{/) { print_call(s); return }
    n = split(s, part, "\n")
    column = 0
    for (i = 1; i <= n; i++) {
        head = part[i]
        if (head ~ /; *\/\*/) { sub(/ *\/\*.*/, "", head); if (columns(head) < 33 && columns(head) >= column) column = columns(head) + 1 }
    }
    for (i = 1; i <= n; i++) {
        if (part[i] !~ /\/\*/) { if (part[i] == "") print ".sp"; else print_call(part[i]); continue }
        head = part[i]; sub(/\/\*.*/, "", head); sub(/ *$/, "", head)
        comment = part[i]; sub(/.*\/\*\*?<? ?/, "", comment)
        while (part[i] !~ /\*\// && i < n) { line = part[++i]; sub(/^[ *]*/, "", line); if (line == "/") line = "*/"; comment = comment " " line }
        sub(/ *\*\/ *$/, "\001*/", comment)
        if (head == "") { fill(spaces(4) "/* ", comment, 7); continue }
        if (columns(head) >= column) { print quote(head); fill(spaces(column) "/* ", comment, column + 3) }
        else fill(head spaces(column - columns(head)) "/* ", comment, column + 3)
    }
}
# A table of Markdown, rows[1 .. row_count]. Where all columns but the last leave it room, it stands in columns; else each row is a
# paragraph: its first cell, and below it the others behind their headings.
function print_table(   i, k, n, line, cell, wide, heading, columns_of, before) {
    for (i = 1; i <= row_count; i++) {
        sub(/^\| */, "", rows[i]); sub(/ *\| *$/, "", rows[i])
        n = split(rows[i], cell, / *\| */)
        if (i == 1) columns_of = n
        for (k = 1; k <= n; k++) if (rows[i] !~ /^[-|: ]*$/ && columns(cell[k]) > wide[k]) wide[k] = columns(cell[k])
    }
    before = 2
    for (k = 1; k < columns_of; k++) before += wide[k] + 2
    split(rows[1], heading, / *\| */)
    for (i = 1; i <= row_count; i++) {
        if (rows[i] ~ /^[-|: ]*$/) continue
        n = split(rows[i], cell, / *\| */)
        if (before + 24 <= width || before + wide[columns_of] <= width) {
            line = "  "
            for (k = 1; k < n; k++) line = line cell[k] spaces(wide[k] - columns(cell[k]) + 2)
            fill(line, cell[n], before)
            continue
        }
        if (i == 1) continue
        fill("  ", cell[1], 4)
        for (k = 2; k <= n; k++) if (cell[k] != "") fill("      " heading[k] ": ", cell[k], 8)
    }
    row_count = 0
}
function print_item(line,   number) {
    if (match(line, /^[0-9]+\. /)) { number = substr(line, 1, RLENGTH - 1); line = substr(line, RLENGTH + 1) }
    else sub(/^[-*] /, "", line)
    print number ? ".IP " number " 4" : ".IP \\(bu 2"
    print quote(line)
}
# Comments: text is filled, what stands indented or in a table keeps its lines, items of a list are paragraphs.
function text(s,   n, i, line, part, fixed) {
    n = split(s, part, "\n")
    for (i = 1; i <= n; i++) {
        line = plain(part[i])
        if (line ~ /^\|/) {
            if (!fixed) print headed ? ".nf" : ".sp\n.nf"
            fixed = 1; gap = item = headed = 0
            if (!row_count) print_kept()
            rows[++row_count] = line
            continue
        }
        if (row_count) print_table()
        if (line ~ /^Test: /) { if (fixed) { print_kept(); print ".fi" } fixed = 0; gap = 1 }
        if (line ~ /^ *$/) { if (fixed) { print_kept(); print ".fi" } fixed = 0; if (i < n) gap = 1; continue }
        if (line ~ /^## /) { if (fixed) { print_kept(); print ".fi" } fixed = gap = 0; headed = 1; print ".SS \"" quote(substr(line, 4)) "\""; continue }
        if (line ~ /^ ? ?([-*]|[0-9]+\.) /) { if (fixed) { print_kept(); print ".fi" } fixed = gap = headed = 0; item = 1; sub(/^ */, "", line); print_item(line); continue }
        if (item && line ~ /^[^ ]/ && !gap) gap = 1 # text right behind a list
        if (gap) item = 0
        indented = line ~ /^   *[^ ]/ && !item
        if (gap && !headed) print indented ? ".sp" : ".PP"
        gap = headed = 0
        if (indented) { if (!fixed) print ".nf"; fixed = 1; kept[++kept_count] = line; continue }
        if (fixed) { print_kept(); print ".fi"; fixed = 0 }
        sub(/^ */, "", line)
        print quote(line)
    }
    if (row_count) print_table()
    if (fixed) { print_kept(); print ".fi" }
    gap = item = headed = 0
}
function page_of(path) {
    sub(/.*\//, "", path); sub(/\.h$/, "", path)
    return path == "migbuf" ? path : "migbuf_" path
}
# The first sentence of the description, on one line, without its full stop: what NAME says.
function first_sentence(s, page,   n, part, i, line) {
    n = split(s, part, "\n")
    for (i = 1; i <= n && (line == "" || part[i] != ""); i++) line = line (line == "" ? "" : " ") part[i]
    if (match(line, /\. /)) line = substr(line, 1, RSTART)
    sub(/\.$/, "", line)
    if (index(line, page " ") == 1) line = substr(line, length(page) + 2)
    return plain(line)
}
function name_of(d,   m) {
    if (d ~ /^#define/) { split(d, m, /[ (]+/); return m[2] }
    if (d ~ /^struct [a-z_]+( \{|;)/) { split(d, m, /[ ;{]+/); return "struct " m[2] }
    sub(/\(.*/, "", d); sub(/.*[ *]/, "", d); return d
}
function flush_declaration() {
    sub(/^MIGBUF_API /, "", declaration)
    count++
    name[count] = name_of(declaration); what[count] = declaration; says[count] = comment
    if (name[count] !~ /^(MIGBUF|struct)/ && name[count] != page_of(FILENAME)) functions = functions ", " name[count]
    declaration = ""; comment = ""
}
{ gsub(/…/, "...") }
/\.h/ && !/^#include/ && !/@file/ { $0 = with_pages($0) }
/^\/\*\*/ { reading = 1; now = $0; sub(/^\/\*\* ?/, "", now) }
reading && !/^\/\*\*/ { now = $0; sub(/^ \* ?/, "", now); if ($0 ~ /^ \*\//) now = "" }
reading {
    ends = $0 ~ /\*\/ *$/
    sub(/ *\*\/ *$/, "", now)
    if (now ~ /^@file/) { file = 1; comment = ""; now = "" }
    else comment = comment now "\n"
    if (file && match(now, /^Link with -l[a-z-]+/)) library = substr(now, 13, RLENGTH - 12)
    if (ends) { reading = 0; if (file) { description = comment; comment = ""; file = 0 } else sub(/\n+$/, "", comment) }
    next
}
/^MIGBUF_API / || /^struct migbuf_[a-z_]+ \{/ || /^struct migbuf_[a-z_]+;/ { open = 1 }
/^#define MIGBUF_[A-Z0-9_]+ / && !/_H$/ {
    line = $0
    if (line ~ /\/\*\*</) { comment = line; sub(/.*\/\*\*< */, "", comment); sub(/ *\*\/.*/, "", comment); sub(/ *\/\*\*<.*/, "", line) }
    declaration = line
    if (line ~ /MIGBUF_API/) { declaration = ""; comment = "" } else flush_declaration()
    next
}
open {
    line = $0
    if (declaration ~ /^MIGBUF_API/) sub(/^           /, "", line) # as far as MIGBUF_API stood
    declaration = declaration (declaration ? "\n" : "") line
    if ($0 ~ /;$/ && (declaration !~ /\{/ || $0 ~ /^};/)) { open = 0; flush_declaration() }
    next
}
END {
    page = page_of(FILENAME)
    room = page; sub(/^migbuf_/, "", room)
    sub(/^\n+/, "", description)
    print "'\\\" -*- coding: UTF-8 -*-"
    print ".TH " toupper(page) " 3 \"\" \"migbuf " version "\" \"migbuf\""
    print ".nh\n.ad l" # names stay whole
    for (i = 1; i <= letters; i++) print ".fchar \\[" glyph[i] "] " word_of[i]
    print ".SH NAME"
    print page functions " \\- " quote(first_sentence(description, page))
    print ".SH SYNOPSIS\n.nf"
    print ".B #include <migbuf/" room ".h>"
    for (i = 1; i <= count; i++) {
        if (name[i] ~ /^(MIGBUF|struct)/) continue
        if (!shown++) print ".sp\n.ft B"
        print_call(what[i])
    }
    if (shown) print ".ft"
    print ".fi\n.PP\ncc ... $(pkg\\-config \\-\\-cflags \\-\\-libs " quote(library) ")"
    print ".SH DESCRIPTION"
    text(description)
    split("MIGBUF_ struct. [a-z]", kind, " ")
    title[1] = "CONSTANTS"; title[2] = "STRUCTS"; title[3] = "FUNCTIONS"
    for (k = 1; k <= 3; k++) {
        shown = 0
        for (i = 1; i <= count; i++) {
            if (name[i] ~ /^MIGBUF/ ? k != 1 : name[i] ~ /^struct/ ? k != 2 : k != 3) continue
            if (!shown++) print ".SH " title[k]
            print ".SS \"" name[i] "\"\n.nf"
            print_declaration(what[i])
            print ".fi"
            if (says[i] != "") { gap = 1; text(says[i]) }
        }
    }
    print ".SH SEE ALSO"
    gsub(/-/, "\\-", see)
    print page == "migbuf" ? see : ".BR migbuf (3)"
}
