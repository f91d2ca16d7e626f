package blocks

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/blocksd/blocksd/network/wire"
)

// DescribeJSONError says what is wrong with JSON, without the names that our program has for things.
func DescribeJSONError(err error) string {
	var wrong *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrong):
		what := "it"
		if wrong.Field != "" {
			what = wrong.Field
		}
		// The value is a kind and, of a number that is one of the wrong kind, its digits.
		got, digits, _ := strings.Cut(wrong.Value, " ")
		return fmt.Sprintf("%s must be %s, not %s", what, kindName(wrong.Type), cmp.Or(wire.CutText(digits, 32), jsonKinds[got], got))
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &syntax) && strings.HasPrefix(syntax.Error(), "unexpected end"):
		return "it ends too early"
	case errors.As(err, &syntax):
		return fmt.Sprintf("it is not valid JSON at byte %d", syntax.Offset)
	case errors.As(err, new(*http.MaxBytesError)):
		return "it is too large"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

var jsonKinds = map[string]string{
	"string": "a string", "number": "a number", "bool": "true or false", "array": "an array", "object": "an object",
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Pointer:
		return kindName(t.Elem())
	}
	return "a whole number"
}
