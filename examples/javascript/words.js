// A function in JavaScript, written as for any runtime of fetch events. An instance of it is made for each request, so that
// `asked` is never more than 1.

let asked = 0;

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const { pathname } = new URL(request.url);
  asked += 1;
  if (pathname === "/healthz") {
    return new Response("ok\n");
  }
  if (request.method !== "POST") {
    return new Response(`POST a text to have its words counted; you asked for ${pathname}\n`);
  }
  if (pathname === "/echo") {
    return new Response(request.body);
  }
  if (pathname === "/later") {
    await new Promise((done) => setTimeout(done, 200));
  }
  const words = (await request.text()).split(/\s+/).filter((word) => word !== "");
  const distinct = new Set(words).size;
  return Response.json({ words: words.length, distinct, asked });
}
