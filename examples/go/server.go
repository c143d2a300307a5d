// A web server of Go's standard library. WASI preview 1 makes no sockets, but a program that accepts connections
// finds a listener at each TCP port of its container as its descriptors from 3 on.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

var answered atomic.Int64

func main() {
	listener, err := net.FileListener(os.NewFile(3, "http"))
	if err != nil {
		log.Fatalf("descriptor 3 is no listener: %v", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", greet)
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("POST /echo", echo)
	mux.HandleFunc("GET /ticks", tick)
	log.Printf("%s listeners; serving at the first", os.Getenv("LISTEN_FDS"))
	log.Fatal(http.Serve(listener, mux))
}

// Greets by a text out of a ConfigMap, which is read for every request.
func greet(w http.ResponseWriter, _ *http.Request) {
	greeting, err := os.ReadFile("/etc/greeting/text")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "%s: %s answers, for the %d. time\n", greeting, os.Getenv("POD_NAME"), answered.Add(1))
}

func echo(w http.ResponseWriter, r *http.Request) {
	// All of it before the first byte goes back, as HTTP/1.1 has it in Go.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Write(body)
}

// Sends five lines one after the other; other requests are answered meanwhile.
func tick(w http.ResponseWriter, r *http.Request) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for number := range 5 {
		select {
		case <-ticker.C:
			fmt.Fprintf(w, "tick %d\n", number)
			http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}
