// What Go's readers make of inputs.
//
// Reads inputs from standard input, each as a letter, a length (32 bits, little-endian) and bytes, and answers each
// with a line of JSON:
//
//	t  a tar: its entries
//	d  a manifest or index, c  a config, m  a manifest.json, o  an oci-layout: what each struct that programs decode
//	   it into has then
//	s  nothing: for each of those letters, documents in which every field of those structs is set
//
// What cannot be read is answered with "error". The structs have the fields, types and tags of those that they are
// named after: image-spec 1.1, distribution, containerd, containers/image, moby, docker-image-spec.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"reflect"
	"strings"
	"time"
)

type answer struct {
	Error   string         `json:"error,omitempty"`
	Entries []entry        `json:"entries"`
	As      map[string]any `json:"as"`
}

type entry struct {
	Type   string `json:"type"`
	Name   string `json:"name"`
	Link   string `json:"link"`
	Size   int64  `json:"size"`
	Digest string `json:"digest"`
}

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		letter, err := in.ReadByte()
		if err == io.EOF {
			return
		}
		var length uint32
		if err := binary.Read(in, binary.LittleEndian, &length); err != nil {
			log.Fatal(err)
		}
		input := make([]byte, length)
		if _, err := io.ReadFull(in, input); err != nil {
			log.Fatal(err)
		}
		var said any
		switch letter {
		case 't':
			said = readTar(input)
		case 's':
			said = samples()
		default:
			said = decode(structs[letter], input)
		}
		line, err := json.Marshal(said)
		if err != nil {
			log.Fatal(err)
		}
		out.Write(append(line, '\n'))
		if err := out.Flush(); err != nil {
			log.Fatal(err)
		}
	}
}

func readTar(input []byte) answer {
	said := answer{Entries: []entry{}}
	reader := tar.NewReader(bytes.NewReader(input))
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return said
		}
		if err == nil {
			hash := sha256.New()
			// Without WriteTo, as a reader of layers reads it.
			var size int64
			size, err = io.Copy(hash, struct{ io.Reader }{reader})
			said.Entries = append(said.Entries, entry{
				Type: string(rune(header.Typeflag)), Name: text(header.Name), Link: text(header.Linkname),
				Size: size, Digest: fmt.Sprintf("sha256:%x", hash.Sum(nil)),
			})
		}
		if err != nil {
			return answer{Error: err.Error()}
		}
	}
}

// Bytes that are no UTF-8 would be lost in JSON.
func text(name string) string {
	return strings.ToValidUTF8(name, "?")
}

// ---- the structs

type Digest string

type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

// image-spec, containerd, buildkit
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       Digest            `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Data         []byte            `json:"data,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

type Versioned struct {
	SchemaVersion int `json:"schemaVersion"`
}

type Index struct {
	Versioned
	MediaType    string            `json:"mediaType,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Manifests    []Descriptor      `json:"manifests"`
	Subject      *Descriptor       `json:"subject,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

type Manifest struct {
	Versioned
	MediaType    string            `json:"mediaType,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Config       Descriptor        `json:"config"`
	Layers       []Descriptor      `json:"layers"`
	Subject      *Descriptor       `json:"subject,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// image-spec before 1.1
type Artifact struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Blobs        []Descriptor      `json:"blobs,omitempty"`
	Subject      *Descriptor       `json:"subject,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// distribution, manifest/manifestlist
type PlatformSpec struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
	Features     []string `json:"features,omitempty"`
}

// distribution: the descriptor
type Blob struct {
	MediaType   string            `json:"mediaType,omitempty"`
	Digest      Digest            `json:"digest,omitempty"`
	Size        int64             `json:"size,omitempty"`
	URLs        []string          `json:"urls,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *Platform         `json:"platform,omitempty"`
}

type ManifestDescriptor struct {
	Blob
	Platform PlatformSpec `json:"platform"`
}

type ManifestList struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType,omitempty"`
	Manifests     []ManifestDescriptor `json:"manifests"`
}

// distribution, manifest/schema2
type Schema2 struct {
	SchemaVersion int    `json:"schemaVersion"`
	MediaType     string `json:"mediaType,omitempty"`
	Config        Blob   `json:"config"`
	Layers        []Blob `json:"layers"`
}

// containerd, core/images: validateMediaType
type UnknownDocument struct {
	MediaType string `json:"mediaType,omitempty"`
	Config    Raw    `json:"config,omitempty"`
	Layers    Raw    `json:"layers,omitempty"`
	Manifests Raw    `json:"manifests,omitempty"`
	FSLayers  Raw    `json:"fsLayers,omitempty"`
}

// A json.RawMessage, of which is kept that it was there.
type Raw bool

func (raw *Raw) UnmarshalJSON([]byte) error {
	*raw = true
	return nil
}

// containers/image, manifest: GuessMIMEType
type Guess struct {
	MediaType     string `json:"mediaType"`
	SchemaVersion int    `json:"schemaVersion"`
	Signatures    any    `json:"signatures"`
}

type ImageConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	ArgsEscaped  bool                `json:"ArgsEscaped,omitempty"`
}

type RootFS struct {
	Type    string   `json:"type"`
	DiffIDs []Digest `json:"diff_ids"`
}

type History struct {
	Created    *time.Time `json:"created,omitempty"`
	CreatedBy  string     `json:"created_by,omitempty"`
	Author     string     `json:"author,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	EmptyLayer bool       `json:"empty_layer,omitempty"`
}

type Image struct {
	Created *time.Time `json:"created,omitempty"`
	Author  string     `json:"author,omitempty"`
	Platform
	Config  ImageConfig `json:"config,omitempty"`
	RootFS  RootFS      `json:"rootfs"`
	History []History   `json:"history,omitempty"`
}

// docker-image-spec
type HealthcheckConfig struct {
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

type DockerImageConfig struct {
	ImageConfig
	Healthcheck *HealthcheckConfig `json:",omitempty"`
	OnBuild     []string           `json:",omitempty"`
	Shell       []string           `json:",omitempty"`
}

type DockerImage struct {
	Image
	Config DockerImageConfig `json:"config,omitempty"`
}

// moby, api/types/container; the lists of words may also be one string there, but not in image-spec
type ContainerConfig struct {
	Hostname        string
	Domainname      string
	User            string
	AttachStdin     bool
	AttachStdout    bool
	AttachStderr    bool
	ExposedPorts    map[string]struct{} `json:",omitempty"`
	Tty             bool
	OpenStdin       bool
	StdinOnce       bool
	Env             []string
	Cmd             []string
	Healthcheck     *HealthcheckConfig `json:",omitempty"`
	ArgsEscaped     bool               `json:",omitempty"`
	Image           string
	Volumes         map[string]struct{}
	WorkingDir      string
	Entrypoint      []string
	NetworkDisabled bool   `json:",omitempty"`
	MacAddress      string `json:",omitempty"`
	OnBuild         []string
	Labels          map[string]string
	StopSignal      string   `json:",omitempty"`
	StopTimeout     *int     `json:",omitempty"`
	Shell           []string `json:",omitempty"`
}

// moby, image
type V1Image struct {
	ID              string           `json:"id,omitempty"`
	Parent          string           `json:"parent,omitempty"`
	Comment         string           `json:"comment,omitempty"`
	Created         *time.Time       `json:"created"`
	Container       string           `json:"container,omitempty"`
	ContainerConfig ContainerConfig  `json:"container_config,omitempty"`
	DockerVersion   string           `json:"docker_version,omitempty"`
	Author          string           `json:"author,omitempty"`
	Config          *ContainerConfig `json:"config,omitempty"`
	Architecture    string           `json:"architecture,omitempty"`
	Variant         string           `json:"variant,omitempty"`
	OS              string           `json:"os,omitempty"`
	Size            int64            `json:",omitempty"`
}

type MobyImage struct {
	V1Image
	Parent     Digest    `json:"parent,omitempty"`
	RootFS     *RootFS   `json:"rootfs,omitempty"`
	History    []History `json:"history,omitempty"`
	OSVersion  string    `json:"os.version,omitempty"`
	OSFeatures []string  `json:"os.features,omitempty"`
}

// moby, image/tarexport
type ManifestItem struct {
	Config       string
	RepoTags     []string
	Layers       []string
	Parent       Digest          `json:",omitempty"`
	LayerSources map[Digest]Blob `json:",omitempty"`
}

type ImageLayout struct {
	Version string `json:"imageLayoutVersion"`
}

var structs = map[byte][]reflect.Type{
	'd': {
		reflect.TypeFor[Index](), reflect.TypeFor[Manifest](), reflect.TypeFor[Artifact](),
		reflect.TypeFor[ManifestList](), reflect.TypeFor[Schema2](), reflect.TypeFor[UnknownDocument](),
		reflect.TypeFor[Guess](),
	},
	'c': {reflect.TypeFor[Image](), reflect.TypeFor[DockerImage](), reflect.TypeFor[MobyImage]()},
	'm': {reflect.TypeFor[[]ManifestItem]()},
	'o': {reflect.TypeFor[ImageLayout]()},
}

func decode(types []reflect.Type, input []byte) answer {
	said := answer{As: map[string]any{}}
	for _, kind := range types {
		value := reflect.New(kind)
		err := json.Unmarshal(input, value.Interface())
		// Docker reads manifest.json so: what follows the first value is not looked at.
		first := reflect.New(kind)
		second := json.NewDecoder(bytes.NewReader(input)).Decode(first.Interface())
		if err == nil && (second != nil || !reflect.DeepEqual(value.Interface(), first.Interface())) {
			err = errors.New("a decoder and Unmarshal disagree")
		}
		if err != nil {
			return answer{Error: kind.String() + ": " + err.Error()}
		}
		said.As[kind.String()] = value.Interface()
	}
	return said
}

// ---- documents with every field

func samples() map[string][]any {
	made := map[string][]any{}
	for letter, types := range structs {
		for _, kind := range types {
			if kind == reflect.TypeFor[UnknownDocument]() {
				continue // it has no type for what its fields are
			}
			value := reflect.New(kind).Elem()
			fill(value, "")
			made[string(rune(letter))] = append(made[string(rune(letter))], value.Interface())
		}
	}
	return made
}

func fill(value reflect.Value, name string) {
	switch value.Interface().(type) {
	case time.Time:
		value.Set(reflect.ValueOf(time.Unix(1700000000, 5).UTC()))
		return
	case []byte:
		value.SetBytes([]byte("x"))
		return
	}
	switch value.Kind() {
	case reflect.Pointer:
		value.Set(reflect.New(value.Type().Elem()))
		fill(value.Elem(), name)
	case reflect.Struct:
		for i := range value.NumField() {
			fill(value.Field(i), value.Type().Field(i).Name)
		}
	case reflect.Slice:
		value.Set(reflect.MakeSlice(value.Type(), 1, 1))
		fill(value.Index(0), name)
	case reflect.Map:
		key, element := reflect.New(value.Type().Key()).Elem(), reflect.New(value.Type().Elem()).Elem()
		fill(key, name)
		fill(element, name)
		value.Set(reflect.MakeMap(value.Type()))
		value.SetMapIndex(key, element)
	case reflect.Interface:
		value.Set(reflect.ValueOf("any"))
	case reflect.Bool:
		value.SetBool(true)
	case reflect.String:
		text := name
		switch {
		case value.Type() == reflect.TypeFor[Digest]():
			text = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("x")))
		case name == "Type":
			text = "layers"
		case name == "Version":
			text = "1.0.0"
		case name == "MediaType":
			text = "application/vnd.oci.image.manifest.v1+json"
		}
		value.SetString(text)
	default:
		number := int64(1)
		if name == "SchemaVersion" {
			number = 2
		}
		value.SetInt(number)
	}
}
