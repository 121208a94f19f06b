# Input filter of Doxyfile: what stands indented in a comment (a formula, a small program, a table) keeps its lines.
# Text that continues an item of a list is indented, too, and stays text.
# "10 .. 60'000" is a range: doxygen would take its first dot for the end of a sentence.
function close_block() { if (block) print "@endverbatim"; block = 0 }
{ gsub(/ \.\. /, " … ") }
/^\/\*\*/ { comment = 1; list = 0 }
/^ \* @file migbuf\.h/ { print " * @mainpage migbuf"; next } # it speaks of all
comment && /^ \*  ?([-*]|[0-9]+\.) / { list = 1 }
comment && /^ \* ?[^ *]/ { list = 0 }
comment && /^ \* Test: / { print " *" } # a paragraph of its own
comment && /^ \*$/ { close_block(); list = 0 }
comment && /^ \*    *[^ ]/ && !list { if (!block) print " * @verbatim"; block = 1 }
comment && block && !/^ \*    *[^ ]/ { close_block() }
/\*\/ *$/ { close_block(); comment = 0 }
{ print block ? substr($0, 3) : $0 } # without the star: doxygen would show it
