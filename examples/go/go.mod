module migbuf.example

go 1.19
