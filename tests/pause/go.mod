module github.com/statlink/statlink/tests/pause

go 1.26
