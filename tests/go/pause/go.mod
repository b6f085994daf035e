module github.com/statlink/statlink/tests/go/pause

go 1.26
