// Requests to the server, and the login.

export class Refused extends Error {}

const byId = (id) => document.getElementById(id);

async function problemOf(answer) {
  try {
    return new Refused((await answer.json()).detail);
  } catch {
    return new Refused(`The server answered ${answer.status}.`);
  }
}

// Sends a request; where the token is missing, asks for it and sends it again.
export async function request(path, options) {
  let answer = await fetch(path, options);
  if (answer.status === 401) {
    await askForToken();
    answer = await fetch(path, options);
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

export function socketTo(path) {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`);
  socket.binaryType = "arraybuffer";
  return socket;
}

async function login(token) {
  const answer = await fetch("/login", { method: "POST", body: new URLSearchParams({ token }) });
  if (!answer.ok) throw await problemOf(answer);
}

// A link may end in #token=...: what follows # is sent to no server, and is taken out of the address at once.
export async function tokenOfAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return;
  history.replaceState(null, "", location.pathname);
  try {
    await login(token);
  } catch {
    // the dialog asks for another one
  }
}

function askForToken() {
  const dialog = byId("login"), form = byId("login-form"), message = byId("login-message");
  if (!dialog.open) dialog.showModal();
  dialog.oncancel = (event) => event.preventDefault();
  return new Promise((resolve) => {
    form.onsubmit = async (event) => {
      event.preventDefault();
      message.hidden = true;
      try {
        await login(byId("token").value);
      } catch (error) {
        message.textContent = error.message;
        message.hidden = false;
        byId("token").select();
        return;
      }
      byId("token").value = "";
      dialog.close();
      resolve();
    };
  });
}

export function setUpLogout() {
  byId("logout").addEventListener("click", async () => {
    await fetch("/logout", { method: "POST" });
    location.reload();
  });
}
