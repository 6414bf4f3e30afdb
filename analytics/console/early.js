// Before the first paint and before the console is there: the theme that was chosen here, else that of the system, and who
// looks, which is asked at once so that the answer is there when the console begins.
{
  const chosen = localStorage.getItem("tollhouse.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
{
  const token = sessionStorage.getItem("tollhouse.token");
  const reply = fetch("/session", { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  // Who waits for it later says what is wrong.
  reply.catch(() => {});
  window.tollhouseEarly = { token, reply };
}
