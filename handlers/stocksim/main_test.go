package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	for request, want := range map[string][]string{
		"": {"AAPL"}, " ": {"AAPL"}, "msft": {"MSFT"}, "aapl, msft,,": {"AAPL", "MSFT"},
		",": nil, strings.Repeat("x", maxName+1): nil, strings.Repeat("x,", maxSymbols+1): nil,
	} {
		stocks, err := parse(request)
		if diff := cmp.Diff(want, append([]string(nil), names(stocks)...)); diff != "" || (err != nil) != (want == nil) {
			t.Errorf("%q: %v (-want +got):\n%s", request, err, diff)
		}
	}
}

func TestQuote(t *testing.T) {
	s := stock{"AAPL", 100}
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	got, err := json.Marshal(s.next(7, at, 2.5))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"type":"quote","symbol":"AAPL","price":101.25,"change":1.25,"tick":7,"at":"2026-05-01T12:00:00Z"}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if q := s.next(8, at, -1000); q.Price != 0.01 || q.Change != -101.24 {
		t.Errorf("a crash leads to %+v", q)
	}
}
