package cli

import (
	"os"
	"path/filepath"
	"regexp"
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
	found := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(page)
	if found == nil {
		t.Fatal("there is no card")
	}
	c, err := card.Parse(found[1])
	if err != nil || len(c.Warnings()) != 0 {
		t.Errorf("%v, warnings %v", err, c.Warnings())
	}
}
