package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/network/card"
)

// A new command is easily forgotten in the README.
func TestReadmeListsEveryCommand(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range commandNames(newRoot(&app{})) {
		if name != "help" && !regexp.MustCompile("(?m)^\\| .*`(blocksd )?"+name+"\\b").Match(readme) {
			t.Errorf("the table of commands in the README lacks %q", name)
		}
	}
}

// The card in the handler contract is what others start from.
func TestCardOfTheContract(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "handler-contract.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?sm)^```json\n(.*?)^```").FindSubmatch(page)
	if found == nil {
		t.Fatal("there is no card")
	}
	c, err := card.Parse(found[1])
	if err != nil || len(c.Warnings()) != 0 {
		t.Errorf("%v, warnings %v", err, c.Warnings())
	}
}

// The sample of status in the README has the columns that status has where there is room.
func TestReadmeSampleOfStatus(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	printed, err := os.ReadFile(filepath.Join("testdata", "people.golden"))
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"AGENT", "HANDLER"} {
		header := regexp.MustCompile("(?m)^" + table + " +STATE .*$")
		squeezed := func(line []byte) string { return strings.Join(strings.Fields(string(line)), " ") }
		sample := squeezed(header.Find(readme))
		if sample == "" || !slices.ContainsFunc(header.FindAll(printed, -1), func(line []byte) bool { return strings.HasPrefix(squeezed(line), sample) }) {
			t.Errorf("the README shows %q, which status does not print", sample)
		}
	}
}
