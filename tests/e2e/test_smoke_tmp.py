import time, openai
def test_a(ride, monkeypatch):
    t=time.time()
    env = ride.app_env()
    print("env", time.time()-t)
    monkeypatch.setenv("HTTPS_PROXY", ride.proxy_url); monkeypatch.setenv("SSL_CERT_FILE", env["SSL_CERT_FILE"])
    with openai.OpenAI(api_key=ride.placeholder) as c:
        made = c.chat.completions.create(model="gpt-4o", messages=[{"role":"user","content":"hi you"}])
    print(made, ride.entry, ride.tokens(), ride.requests(), ride.events())
    ride.assert_hidden()
def test_b(ride): pass
def test_c(ride): pass
