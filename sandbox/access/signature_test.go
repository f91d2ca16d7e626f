package access

import "testing"

// TestVerifySignature: signatures computed by openssl from the rules, one for each way of signing.
func TestVerifySignature(t *testing.T) {
	publish := Signed{Method: "POST", PublishKey: "pub", SubscribeKey: "sub", Path: "/publish/pub/sub/0/c%20d/0", Query: "timestamp=1&uuid=a%2Ab", Body: []byte(`{"a":1}`)}
	get := Signed{Method: "GET", PublishKey: "pub", SubscribeKey: "sub", Path: "/v2/subscribe/sub/c%20d/0", Query: "timestamp=1&uuid=a%2Ab"}
	tests := []struct {
		name      string
		request   Signed
		signature string
		want      bool
	}{
		{"v2 with body", publish, "v2.4LcxWGLlO_GZ65p4Kc445mvgO0FJbjtENLgcdSPPNB4", true},
		{"v2 as if a GET", publish, "v2.ekDKFbzECHKQXfnwHoGkCRUQaVBUm9cllgJ_dyLo8X0", true},
		{"v1", publish, "pxhJb4H5SBgQLAEXTXqQSHuyDuGMNyL3maURB4nej8k=", true},
		{"v2", get, "v2.du9cVMfHIi4tVY1PbIyEx3kPHh4z2Xg7_-uHdkGs2QE", true},
		{"v2, escaped twice", get, "v2.we8VhbemCZ__9LuqMXOv-HhFCkNxzjGxjsC3wddPvHU", true},
		{"v1 of another request", get, "pxhJb4H5SBgQLAEXTXqQSHuyDuGMNyL3maURB4nej8k=", false},
		{"v1 where it is not used", get, "DW9Reb8Dd0KzeIhG5i9KxS9IOyDoollKIvw7DL-Vj_c=", false},
		{"none", get, "", false},
	}
	for _, tt := range tests {
		tt.request.Signature = tt.signature
		if got := VerifySignature("secret", tt.request); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if got := EncodeQuery("aZ09_.-~*!'()[] ü/"); got != "aZ09_.-%7E%2A%21%27%28%29%5B%5D%20%C3%BC%2F" {
		t.Errorf("encoded %s", got)
	}
}
