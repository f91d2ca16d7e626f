package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/wire"
)

func TestOffer(t *testing.T) {
	limits := backend.DefaultPriceLimits
	both, request := []wire.TaskKind{wire.Request, wire.Pipe}, []wire.TaskKind{wire.Request}
	for _, c := range []struct {
		name               string
		offer              offer
		kinds              []wire.TaskKind
		perTask, perMinute string
		wrong              string
	}{
		{"free", offer{"private", "free", "", "", false}, both, "", "", ""},
		{"free at no price", offer{"private", "free", "0.00", "0", false}, both, "", "", ""},
		{"paid", offer{"public", "paid", "0.05", "", true}, both, "0.050000", "", ""},
		{"both prices", offer{"public", "paid", "1", "0.5", true}, both, "1.000000", "0.500000", ""},
		{"the lowest", offer{"public", "paid", "0.0001", "", true}, request, "0.000100", "", ""},
		{"too little", offer{"public", "paid", "0.00009", "", true}, request, "", "", "--price-per-task must be from 0.0001 to 25.00"},
		{"too much", offer{"public", "paid", "", "1.01", true}, both, "", "", "--price-per-minute must be from 0.01 to 1.00"},
		{"an exponent", offer{"public", "paid", "1e2", "", true}, both, "", "", "--price-per-task must be an amount"},
		{"negative", offer{"public", "paid", "-1", "", true}, both, "", "", "--price-per-task must be an amount"},
		{"too exact", offer{"public", "paid", "0.1234567", "", true}, both, "", "", "--price-per-task must be an amount"},
		{"nothing paid", offer{"public", "paid", "0", "", true}, both, "", "", "a paid agent needs a price"},
		{"pipes only", offer{"public", "paid", "", "", true}, []wire.TaskKind{wire.Pipe}, "", "", "a paid agent needs a price: give --price-per-minute"},
		{"no such tasks", offer{"public", "paid", "", "0.5", true}, request, "", "", "--price-per-minute is the price of pipe tasks"},
		{"terms", offer{"public", "paid", "0.05", "", false}, request, "", "", "the terms"},
		{"listing", offer{"", "free", "", "", false}, both, "", "", "--listing"},
		{"billing", offer{"private", "gratis", "", "", false}, both, "", "", "--billing-mode"},
	} {
		perTask, perMinute, err := c.offer.check(c.kinds, limits)
		if c.wrong != "" {
			if err == nil || !strings.HasPrefix(err.Error(), c.wrong) {
				t.Errorf("%s: %v, want %s", c.name, err, c.wrong)
			}
			continue
		}
		if err != nil || perTask != c.perTask || perMinute != c.perMinute {
			t.Errorf("%s: %q, %q, %v", c.name, perTask, perMinute, err)
		}
	}
}

// What a network writes as a price is shown, and never costs more than it is worth to read.
func TestPriceText(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "0.050000": "$0.05", "25": "$25.00", "0.0001": "$0.0001", "1e-4": "$0.0001", "x": "$0.00", "1e999999999": "$0.00", "-1": "$0.00", "1/3": "$0.00",
	} {
		if got := priceText(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, " YES \n": true, "n\n": false, "\n": false, "": false, "yeah\n": false} {
		a := &app{Invocation: Invocation{Stdin: strings.NewReader(answer), Stderr: &bytes.Buffer{}}}
		if got := a.confirm(context.Background(), "Sure?"); got != want {
			t.Errorf("%q: %v", answer, got)
		}
	}
}
