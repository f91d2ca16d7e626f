// Command stocksim is the reference handler of the agent "stock_sim": a feed of made-up quotes that lasts until somebody ends
// it or its time is over.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	pluginsdk.Serve(pluginsdk.Handler{Name: "stocksim", Version: "0.1.0", Cards: [][]byte{card}, Run: run})
}

// Bounds of a request.
const (
	maxSymbols = 50
	maxName    = 16
)

// interval is the time between two quotes of a symbol.
const interval = time.Second

func run(ctx context.Context, t *pluginsdk.Task) error {
	request, _ := t.Text("request")
	stocks, err := parse(request)
	if err != nil {
		return err
	}
	s, err := t.CreateStream(ctx, pluginsdk.StreamOptions{Metadata: map[string]any{"symbols": names(stocks)}})
	if err != nil {
		return err
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for tick := 1; ; tick++ {
		for i := range stocks {
			if err := s.WriteEvent(stocks[i].next(tick, time.Now(), rand.NormFloat64())); err != nil {
				return err
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done(): // cancelled, or the time is over
			return nil
		}
	}
}

// stock is one symbol and its price.
type stock struct {
	symbol string
	price  float64
}

// parse reads the symbols of a request.
func parse(request string) ([]stock, error) {
	var all []stock
	for name := range strings.SplitSeq(request, ",") {
		if name = strings.ToUpper(strings.TrimSpace(name)); name == "" {
			continue
		}
		if len(name) > maxName {
			return nil, fmt.Errorf("a symbol has at most %d letters", maxName)
		}
		all = append(all, stock{name, 100})
	}
	if len(all) > maxSymbols {
		return nil, fmt.Errorf("at most %d symbols can be watched at once", maxSymbols)
	}
	if len(all) == 0 && strings.Contains(request, ",") {
		return nil, errors.New("the request names no symbol")
	}
	if len(all) == 0 {
		all = []stock{{"AAPL", 100}}
	}
	return all, nil
}

func names(stocks []stock) []string {
	all := make([]string, len(stocks))
	for i, s := range stocks {
		all[i] = s.symbol
	}
	return all
}

// quote is one event.
type quote struct {
	Type   string  `json:"type"`
	Symbol string  `json:"symbol"`
	Price  float64 `json:"price"`
	Change float64 `json:"change"`
	Tick   int     `json:"tick"`
	At     string  `json:"at"`
}

// next moves the price by about half a percent.
func (s *stock) next(tick int, at time.Time, random float64) quote {
	before := s.price
	s.price = max(0.01, cents(before*(1+0.005*random)))
	return quote{"quote", s.symbol, s.price, cents(s.price - before), tick, at.UTC().Format(time.RFC3339Nano)}
}

func cents(v float64) float64 { return math.Round(v*100) / 100 }
