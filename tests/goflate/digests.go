// What Go's compress/gzip makes of inputs.
//
// Without arguments: reads inputs from standard input, each as a number of writes, their lengths (all 32 bits,
// little-endian) and their bytes; answers each with a line of length:sha256 for the levels -2 to 9.
//
// With a level: encodes standard input to standard output.
//
// With a level and a file: encodes the file in writes of 32 KiB, and prints the seconds of
// processor time that it took.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 {
		measure(os.Args[1], os.Args[2])
		return
	}
	if len(os.Args) == 2 {
		pack(os.Args[1])
		return
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		var count uint32
		if err := binary.Read(in, binary.LittleEndian, &count); err == io.EOF {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		lengths := make([]uint32, count)
		if err := binary.Read(in, binary.LittleEndian, lengths); err != nil {
			log.Fatal(err)
		}
		writes := make([][]byte, count)
		for i, length := range lengths {
			writes[i] = make([]byte, length)
			if _, err := io.ReadFull(in, writes[i]); err != nil {
				log.Fatal(err)
			}
		}
		for level := -2; level <= 9; level++ {
			var out bytes.Buffer
			encode(&out, level, writes)
			fmt.Printf("%d:%x ", out.Len(), sha256.Sum256(out.Bytes()))
		}
		fmt.Println()
	}
}

func encode(out io.Writer, level int, writes [][]byte) {
	encoder, err := gzip.NewWriterLevel(out, level)
	if err != nil {
		log.Fatal(err)
	}
	for _, write := range writes {
		if _, err := encoder.Write(write); err != nil {
			log.Fatal(err)
		}
	}
	if err := encoder.Close(); err != nil {
		log.Fatal(err)
	}
}

func pack(number string) {
	level, err := strconv.Atoi(number)
	if err != nil {
		log.Fatal(err)
	}
	encoder, err := gzip.NewWriterLevel(os.Stdout, level)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(encoder, os.Stdin); err != nil {
		log.Fatal(err)
	}
	if err := encoder.Close(); err != nil {
		log.Fatal(err)
	}
}

func measure(level, path string) {
	number, err := strconv.Atoi(level)
	if err != nil {
		log.Fatal(err)
	}
	input, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	var writes [][]byte
	for len(input) > 0 {
		n := min(len(input), 32<<10)
		writes = append(writes, input[:n])
		input = input[n:]
	}
	start := processorTime()
	encode(io.Discard, number, writes)
	fmt.Println((processorTime() - start).Seconds())
}

func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
