package roster

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// TestHandlerKeysReachTheHandler: every key of which a reload says that it gives handlers new processes changes what a handler
// is started with. A new key is in this test without being named.
func TestHandlerKeysReachTheHandler(t *testing.T) {
	settings := func() *config.Config {
		c := config.Default()
		c.Handlers = []config.Handler{{Name: "a", Instances: 1, ProcessLimits: c.Isolation.ProcessLimits}}
		return &c
	}
	plan := func(c *config.Config) any {
		return MakePlan(*c, Survey{Found: []catalog.Found{{Name: "a", Path: "/p/a"}, {Name: "b", Path: "/p/b"}}}, Plan{}).Handlers
	}
	before, all := plan(settings()), cmp.Exporter(func(reflect.Type) bool { return true })
	if !cmp.Equal(before, plan(settings()), all) {
		t.Fatal("two plans of the same settings differ")
	}
	checked := 0
	var visit func(at func(*config.Config) reflect.Value, path, class string)
	visit = func(at func(*config.Config) reflect.Value, path, class string) {
		v := at(settings())
		switch {
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				f := v.Type().Field(i)
				inherited := class
				if own := f.Tag.Get("reload"); own != "" {
					inherited = own
				}
				name, _, _ := strings.Cut(f.Tag.Get("koanf"), ",")
				visit(func(c *config.Config) reflect.Value { return at(c).Field(i) }, strings.Trim(path+"."+name, "."), inherited)
			}
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
			if v.Len() > 0 {
				visit(func(c *config.Config) reflect.Value { return at(c).Index(0) }, path, class)
			}
		case class != config.NeedsHandler, path == "handlers.name": // another name is another handler
		default:
			c := settings()
			change(t, path, at(c))
			if cmp.Equal(before, plan(c), cmpopts.EquateEmpty(), all) {
				t.Errorf("%s changes nothing", path)
			}
			checked++
		}
	}
	visit(func(c *config.Config) reflect.Value { return reflect.ValueOf(c).Elem() }, "", "")
	if checked < 30 {
		t.Errorf("only %d keys were found", checked)
	}
}

// change gives a key another value that it may have.
func change(t *testing.T, path string, v reflect.Value) {
	switch value := v.Interface().(type) {
	case time.Duration:
		v.SetInt(int64(value + time.Second))
	case int:
		v.SetInt(int64(value + 1))
	case bool:
		v.SetBool(!value)
	case []string:
		v.Set(reflect.ValueOf([]string{"OTHER"}))
	case string:
		switch path[strings.LastIndex(path, ".")+1:] {
		case "level":
			v.SetString("none")
		case "sha256":
			v.SetString(strings.Repeat("a", 64))
		default:
			v.SetString("/other")
		}
	default:
		t.Fatalf("the key %s has the type %s", path, v.Type())
	}
}
