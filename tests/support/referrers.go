// A registry with the referrers API on a free port of loopback, which it prints.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		fmt.Println("serving on", listener.Addr())
		err = http.Serve(listener, registry.New(registry.WithReferrersSupport(true)))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
