package cli

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/wire"
)

// pricePattern is a decimal number with at most six places, as the registry keeps it.
var pricePattern = regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,6})?$`)

// pricePlaces is how many places the registry gets.
const pricePlaces = 6

// offer is how an agent is to be offered. Prices are decimal texts, "" for none.
type offer struct {
	listing, billingMode string
	perTask, perMinute   string
	acceptTerms          bool
}

// check returns what is wrong with an offer of an agent of these kinds of task, as one sentence, and the prices in the form
// that is sent. flag names the flag that is to blame.
func (o offer) check(kinds []wire.TaskKind, limits backend.PriceLimits) (perTask, perMinute string, err error) {
	if o.listing != "private" && o.listing != "public" {
		return "", "", fmt.Errorf("--listing must be private or public, not %q", o.listing)
	}
	if o.billingMode != string(wire.Free) && o.billingMode != string(wire.Paid) {
		return "", "", fmt.Errorf("--billing-mode must be free or paid, not %q", o.billingMode)
	}
	prices := []struct {
		flag, text, min, max string
		kind                 wire.TaskKind
		sent                 *string
	}{
		{"--price-per-task", o.perTask, limits.MinPerTask, limits.MaxPerTask, wire.Request, &perTask},
		{"--price-per-minute", o.perMinute, limits.MinPerMinute, limits.MaxPerMinute, wire.Pipe, &perMinute},
	}
	paid := o.billingMode == string(wire.Paid)
	for _, p := range prices {
		if p.text == "" {
			continue
		}
		if !pricePattern.MatchString(p.text) {
			return "", "", fmt.Errorf("%s must be an amount in US dollars such as 0.05, with at most %d places, not %q", p.flag, pricePlaces, p.text)
		}
		price := rational(p.text)
		switch {
		case price.Sign() == 0 && !paid:
			continue
		case !paid:
			return "", "", fmt.Errorf("a free agent has no price: leave %s out, or give --billing-mode paid", p.flag)
		case !offers(kinds, p.kind):
			return "", "", fmt.Errorf("%s is the price of %s tasks, and the card offers none: leave it out", p.flag, p.kind)
		case price.Sign() == 0:
			continue
		case p.min != "" && price.Cmp(rational(p.min)) < 0, p.max != "" && price.Cmp(rational(p.max)) > 0:
			return "", "", fmt.Errorf("%s must be from %s to %s US dollars, not %s", p.flag, p.min, p.max, p.text)
		}
		*p.sent = price.FloatString(pricePlaces)
	}
	if paid && perTask == "" && perMinute == "" {
		flag := "--price-per-task"
		if !offers(kinds, wire.Request) {
			flag = "--price-per-minute"
		}
		return "", "", fmt.Errorf("a paid agent needs a price: give %s", flag)
	}
	if paid && !o.acceptTerms {
		return "", "", fmt.Errorf("the terms for paid agents must be accepted: read them on the network's site, then give --accept-terms")
	}
	return perTask, perMinute, nil
}

// rational reads a decimal text of ours or of the network; what is none, or no price at all, is 0.
func rational(text string) *big.Rat {
	if v, err := strconv.ParseFloat(text, 64); err == nil && v >= 1e-9 && v <= 1e9 {
		if r, ok := new(big.Rat).SetString(text); ok {
			return r
		}
	}
	return new(big.Rat)
}

// offers reports whether a card offers tasks of a kind. One that names none offers all.
func offers(kinds []wire.TaskKind, kind wire.TaskKind) bool {
	return len(kinds) == 0 || slices.Contains(kinds, kind)
}

// priceText is a price for people, with at least two places; "" for none.
func priceText(price string) string {
	if price == "" {
		return ""
	}
	whole, places, _ := strings.Cut(rational(price).FloatString(pricePlaces), ".")
	for len(places) > 2 && strings.HasSuffix(places, "0") {
		places = places[:len(places)-1]
	}
	return "$" + whole + "." + places
}
