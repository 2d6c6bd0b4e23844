// A chat over one WebSocket: the first message says who one is, all others what one has to say.

const byId = id => document.getElementById(id);
let name = "";
let socket = null;
let delay = 500;

function connect() {
  socket = new WebSocket(new URL("/", location.href.replace(/^http/, "ws")), "chat");
  socket.onopen = () => {
    delay = 500;
    byId("state").textContent = "";
    byId("speak").querySelector("button").disabled = false;
    socket.send(JSON.stringify({ name }));
  };
  socket.onmessage = event => show(JSON.parse(event.data));
  socket.onclose = () => {
    byId("state").textContent = "Reconnecting";
    byId("speak").querySelector("button").disabled = true;
    setTimeout(connect, delay);
    delay = Math.min(delay * 2, 8000);
  };
}

// What others say is text, whatever it looks like.
function show({ kind, name: who, text, here }) {
  const item = document.createElement("li");
  if (kind === "says") {
    const author = document.createElement("b");
    author.textContent = who;
    item.append(author, text);
    item.classList.toggle("own", who === name);
  } else {
    item.textContent = kind === "comes" ? `${who} comes in` : `${who} leaves`;
    item.className = "event";
    byId("here").textContent = here.join(", ");
  }
  const said = byId("said");
  const atEnd = said.scrollHeight - said.scrollTop - said.clientHeight < 40;
  said.append(item);
  while (said.childElementCount > 500) said.firstElementChild.remove();
  if (atEnd) said.scrollTop = said.scrollHeight;
}

byId("enter").addEventListener("submit", event => {
  event.preventDefault();
  name = byId("name").value.trim();
  if (!name) return;
  byId("enter").hidden = true;
  byId("speak").hidden = false;
  byId("text").focus();
  connect();
});
byId("speak").addEventListener("submit", event => {
  event.preventDefault();
  if (socket.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ text: byId("text").value }));
  byId("text").value = "";
});
byId("state").textContent = "";
